import type { ChildProcess } from 'node:child_process';

export interface WineOptions {
  readonly log: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

export function windowsPath(file: string): string;
export function startInWine(
  program: string,
  args: readonly string[],
  options: WineOptions,
): ChildProcess;
export function runInWine(
  program: string,
  args: readonly string[],
  options: WineOptions & { readonly seconds: number },
): Promise<number | null>;
