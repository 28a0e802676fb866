/**
 * fio, where it is installed, as the measure of what the kernel can do.
 */
import { spawnSync } from 'node:child_process';
import { capture, NotMeasured, tool } from './children.mjs';

function isInstalled() {
  return spawnSync('fio', ['--version'], { stdio: 'ignore' }).status === 0;
}

/** Random reads of 4 KiB with its io_uring engine. */
export async function runFio({ depth, direct }, { file, warmUp, seconds }) {
  if (!isInstalled()) throw new NotMeasured('fio is not installed');
  const { output } = await capture(
    tool(
      ...['fio', '--name=reads', `--filename=${file}`, '--readonly', '--rw=randread', '--bs=4k'],
      ...['--ioengine=io_uring', `--iodepth=${depth}`, `--direct=${direct ? 1 : 0}`],
      // fio would drop the file from the page cache first.
      ...['--invalidate=0', '--norandommap', '--thread', '--output-format=json'],
      ...['--time_based', `--runtime=${seconds}`, `--ramp_time=${warmUp}`],
      // Submitted and reaped in batches, as the others do.
      ...['--iodepth_batch_submit=32', '--iodepth_batch_complete_min=1'],
      ...['--iodepth_batch_complete_max=128'],
    ),
  );
  const [job] = JSON.parse(output.slice(output.indexOf('{'))).jobs;
  if (job.error !== 0) throw new Error(`fio: error ${job.error}`);
  const { iops, total_ios: reads, runtime } = job.read;
  const busy = ((job.usr_cpu + job.sys_cpu) / 100) * runtime * 1000;
  return { rate: iops, cpu: busy / reads };
}
