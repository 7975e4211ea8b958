/** The pieces of a vocabulary as a trie over code units: every piece that begins at a place of a text, in one walk. */
export class PieceTrie {
  /** node * 65536 + code unit -> next node; the root is 0 */
  private readonly edges = new Map<number, number>();
  /** (nodes) the piece's id, -1 where none ends */
  private readonly ids: number[] = [-1];

  /** Where two pieces are the same, the later one counts. */
  add(text: string, id: number): void {
    let node = 0;
    for (let i = 0; i < text.length; i++) {
      const key = node * 65536 + text.charCodeAt(i);
      let next = this.edges.get(key);
      if (next === undefined) {
        next = this.ids.length;
        this.ids.push(-1);
        this.edges.set(key, next);
      }
      node = next;
    }
    if (node !== 0) this.ids[node] = id;
  }

  /** Call `visit` with id and end of every piece that begins at `start`, shortest first. */
  eachPiece(text: string, start: number, visit: (id: number, end: number) => void): void {
    let node = 0;
    for (let i = start; i < text.length; i++) {
      const next = this.edges.get(node * 65536 + text.charCodeAt(i));
      if (next === undefined) return;
      node = next;
      if (this.ids[node]! >= 0) visit(this.ids[node]!, i + 1);
    }
  }
}
