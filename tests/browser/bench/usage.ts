/** What a process has used, by proc(5). Linux counts 100 ticks a second and pages of 4 KiB. */
import { readFileSync, readdirSync } from 'node:fs';

export type Usage = { at_ms: number; cpu_s: number; rss_mb: number; descriptors: number };

export function usageOf(pid: number): Usage {
  const read = (file: string) => readFileSync(`/proc/${pid}/${file}`, 'utf8');
  // The program's name stands in brackets and may hold spaces; utime and stime are fields 14 and 15.
  const fields = read('stat').split(')').at(-1)!.trim().split(' ').map(Number);
  return {
    at_ms: performance.now(),
    cpu_s: (fields[11]! + fields[12]!) / 100,
    rss_mb: (Number(read('statm').split(' ')[1]) * 4096) / 1e6,
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
  };
}
