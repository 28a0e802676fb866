/**
 * A progress bar on standard error, when that is a terminal.
 */
import cliProgress from 'cli-progress';

export function progressBar(total) {
  const bar = new cliProgress.SingleBar(
    {
      format: '{bar} {percentage} %  {done} of {all} MiB  {rate} MiB/s  {eta_formatted} left',
      stream: process.stderr,
      hideCursor: true,
      gracefulExit: false,
      fps: 10,
    },
    cliProgress.Presets.shades_classic,
  );
  const mebibytes = (bytes) => (bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0);
  const began = performance.now();
  let done = 0;
  const fields = () => ({
    done: mebibytes(done),
    all: mebibytes(total),
    rate: mebibytes((done * 1000) / (performance.now() - began + 1)),
  });
  bar.start(total, 0, fields());
  return {
    add(bytes) {
      done += bytes;
      bar.update(Math.min(done, total), fields());
    },
    stop() {
      bar.stop();
    },
  };
}
