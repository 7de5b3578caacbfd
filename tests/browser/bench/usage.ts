/** What a process and what the whole machine has used, by proc(5). Linux counts 100 ticks a second and pages of 4 KiB. */
import { readFileSync, readdirSync } from 'node:fs';

export type Usage = { at_ms: number; cpu_s: number; rss_mb: number; descriptors: number };

/** Processor time of all cores since the machine's start: `taken_s` is what its host gave to others while it was wanted here. */
export type Machine = { work_s: number; idle_s: number; taken_s: number };

export function machine(): Machine {
  // In hundredths: user, nice, system, idle, iowait, irq, softirq, steal.
  const ticks = readFileSync('/proc/stat', 'utf8').split('\n')[0]!.trim().split(/ +/).slice(1).map(Number);
  const sum = (...of: number[]) => of.reduce((all, i) => all + ticks[i]!, 0) / 100;
  return { work_s: sum(0, 1, 2, 5, 6), idle_s: sum(3, 4), taken_s: sum(7) };
}

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
