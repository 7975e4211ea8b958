export function fetchVocabularies(): string;
