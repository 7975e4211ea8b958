/** The copy of libnode that host/setup.sh installs: a library whose own functions are bound, and which does what it did. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'hartonomous-bind-'));
const at = (name: string): string => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Everything that C++ makes a loader look up. */
const LIBRARY = `
#include <string>
#include <thread>
template <int N> struct Shared { static int value; };           // one in the whole program
template <int N> int Shared<N>::value = N;
inline int &counter() { static int count = 0; return count; }   // and so is this
struct Base { virtual ~Base() {} virtual int number() { return 1; } };
struct Derived : Base { int number() override { return 2; } };
int variable = 40;
int *address = &variable;
thread_local int local = 7;
int plain(int x) { return x + 1; }
int other(int x) { return x + 2; }
int (*table[])(int) = {plain, other, plain};
extern "C" int (*choose(void))(int) { return other; }
extern "C" int chosen(int) __attribute__((ifunc("choose")));
int *beyond() { return &variable + 3; }
Base *make() { return new Derived; }
std::string all() {
  counter()++;
  Shared<5>::value++;
  std::string text;
  for (auto f : table) text += std::to_string(f(10)) + " ";
  local++;
  int there = 0;
  std::thread([&] { there = local; }).join();
  return text + std::to_string(chosen(1)) + " " + std::to_string(*address + variable) + " " + std::to_string(local + there) + " " +
         std::to_string(beyond() - &variable);
}
`;
const PROGRAM = `
#include <cstdio>
#include <string>
template <int N> struct Shared { static int value; };
template <int N> int Shared<N>::value = N;
inline int &counter() { static int count = 0; return count; }
struct Base { virtual ~Base() {} virtual int number() { return 1; } };
extern int variable;
int plain(int);
Base *make();
std::string all();
int main() {
  variable++;
  std::string first = all(), second = all();
  Base *base = make();
  printf("%s | %s | %d %d %d %d", first.c_str(), second.c_str(), counter(), Shared<5>::value, plain(1), base->number());
  delete base;
}
`;
const OUTPUT = '11 12 11 3 82 15 3 | 11 12 11 3 82 16 3 | 2 7 2 2';

const bind = (from: string, to: string): ReturnType<typeof spawnSync> =>
  spawnSync(at('bind-library'), [at(from), at(to)], { encoding: 'utf8' });

/** Names that a loader looks up for places in the library, without those that it cannot have itself. */
function lookedUp(library: string): string[] {
  const lines = execFileSync('readelf', ['-rW', at(library)], { encoding: 'utf8' }).split('\n');
  return lines.flatMap((line) => /_(?:64|ABS64|GLOB_DAT|JUMP_SLO\w*) +[0-9a-f]{16} +(\S+)/.exec(line)?.[1] ?? []);
}

beforeAll(() => {
  const source = fileURLToPath(new URL('../../host/bind-library.cc', import.meta.url));
  execFileSync('g++', ['-O1', '-std=c++17', '-Wall', '-Wextra', '-Werror', '-o', at('bind-library'), source]);
  writeFileSync(at('library.cc'), LIBRARY);
  writeFileSync(at('program.cc'), PROGRAM);
  execFileSync('g++', ['-O1', '-fPIC', '-shared', '-Wl,-z,now', '-o', at('library.so'), at('library.cc')]);
  execFileSync('g++', [
    '-O1',
    '-fPIE',
    '-pie',
    '-o',
    at('program'),
    at('program.cc'),
    at('library.so'),
    '-Wl,-rpath,$ORIGIN',
  ]);
});

test('a library whose own functions are bound does what it did', () => {
  const run = (): string => execFileSync(at('program'), { encoding: 'utf8' });
  expect(run()).toBe(OUTPUT);
  const before = lookedUp('library.so');
  expect(before).toEqual(expect.arrayContaining(['_Z5plaini', '_Z5otheri', '_ZN7Derived6numberEv']));
  expect(bind('library.so', 'bound.so')).toMatchObject({ status: 0, stderr: '' });
  execFileSync('cp', [at('bound.so'), at('library.so')]);
  expect(run()).toBe(OUTPUT);
  const after = lookedUp('library.so');
  expect(['_Z5plaini', '_Z5otheri', '_ZN7Derived6numberEv'].filter((name) => after.includes(name))).toEqual([]);
  // Variables, of which the program may have the only one, are looked up as before.
  const variables = ['address', 'variable', '_ZN6SharedILi5EE5valueE', '_ZZ7countervE5count', '_ZTV7Derived'];
  for (const names of [before, after]) expect(names).toEqual(expect.arrayContaining(variables));
});

test('bound twice it is the same', () => {
  expect(bind('bound.so', 'twice.so').status).toBe(0);
  expect(readFileSync(at('twice.so')).equals(readFileSync(at('bound.so')))).toBe(true);
});

test('what is not understood is copied as it is, and that is told', () => {
  const whole = readFileSync(at('bound.so'));
  const dynamic = whole.length - (whole.length % 8);
  const cases: [string, Buffer][] = [
    ['no library', Buffer.from('something else')],
    ...[16, 63, 64, 200, 1000, whole.length >> 1].map((n): [string, Buffer] => [
      `${n} bytes of it`,
      whole.subarray(0, n),
    ]),
    ['of 32 bits', Buffer.concat([whole.subarray(0, 4), Buffer.from([1]), whole.subarray(5, dynamic)])],
    ['of another machine', Buffer.concat([whole.subarray(0, 18), Buffer.from([8, 0]), whole.subarray(20)])],
  ];
  for (const [title, bytes] of cases) {
    writeFileSync(at('odd'), bytes);
    const { status, stderr } = bind('odd', 'copy');
    expect([title, status, stderr]).toEqual([
      title,
      0,
      expect.stringMatching(/is copied as it is, and loaded slowly: it/),
    ]);
    expect(readFileSync(at('copy')).equals(bytes)).toBe(true);
  }
  expect(bind('missing', 'copy').status).toBe(1);
  execFileSync('g++', ['-O1', '-fPIC', '-shared', '-Wl,-z,lazy', '-o', at('lazy.so'), at('library.cc')]);
  expect(bind('lazy.so', 'copy').stderr).toContain('calls are bound when they are made first');
});
