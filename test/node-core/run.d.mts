export type Verdict = 'pass' | 'fail' | 'skip' | 'timeout';
export function namesIn(folder: string): string[];
export function outOfReach(folder: string, name: string): string | undefined;
export function runTest(folder: string, name: string): Promise<{ verdict: Verdict; said: string }>;
