/**
 * What would make the library work, or work better, on the system that was found.
 */
import { BUILD_COMMAND } from '../loader';
import type { Diagnosis, Limit } from './findings';

type Facts = Omit<Diagnosis, 'advice'>;

/** Fewer descriptors than that are used up by a server of middling size. */
const FEW_DESCRIPTORS = 4096;
/** io_uring with all that the driver needs. */
const OLDEST_KERNEL = [6, 0] as const;

function isBelow({ soft }: Limit, bound: number): boolean {
  return soft !== 'unlimited' && soft < bound;
}

function kernelIsOld(release: string): boolean {
  const [major = 0, minor = 0] = release.split('.').map(Number.parseFloat);
  return major < OLDEST_KERNEL[0] || (major === OLDEST_KERNEL[0] && minor < OLDEST_KERNEL[1]);
}

function aboutBinary({ binary }: Facts): string[] {
  if (binary.file !== null) return [];
  const reasons = binary.tried.map(({ reason }) => reason).join('\n');
  if (/loading addons is disabled/.test(reasons)) {
    return [
      'Node.js was told to load no addons: start it with --allow-addons (permission model), without --no-addons.',
    ];
  }
  const advice = [`Build the binary on this machine: ${BUILD_COMMAND}`];
  if (/GLIBC|CXXABI/.test(reasons)) {
    advice.push('The prebuilt one needs glibc 2.28 and the libstdc++ of GCC 8, or newer ones.');
  }
  if (process.env['COMPLETION_PORT_BINDING']) {
    advice.unshift('COMPLETION_PORT_BINDING keeps the library from looking for others: unset it.');
  }
  return advice;
}

/** What forbids a ring that is refused with EPERM, EACCES or ENOSYS. */
function aboutRefusal({ system, restrictions }: Facts, error: string): string {
  const { ioUringDisabled, ioUringGroup, seccomp } = restrictions;
  if (ioUringDisabled === 2) {
    return 'kernel.io_uring_disabled is 2, which turns io_uring off for all: sysctl -w kernel.io_uring_disabled=0 grants it.';
  }
  if (ioUringDisabled === 1 && error === 'EPERM') {
    const group = ioUringGroup === null || ioUringGroup < 0 ? 'no group' : `group ${ioUringGroup}`;
    return `kernel.io_uring_disabled is 1, which leaves io_uring to the privileged and to ${group} (kernel.io_uring_group): add the user to that group, or set it to 0.`;
  }
  if (seccomp === 'filter') {
    return 'A seccomp filter is active, as container runtimes set one that blocks io_uring: allow io_uring_setup, io_uring_enter and io_uring_register in its profile (Docker: --security-opt seccomp=FILE; Kubernetes: securityContext.seccompProfile).';
  }
  if (error !== 'ENOSYS') {
    return 'Neither seccomp nor kernel.io_uring_disabled forbids io_uring: a security module may (SELinux, AppArmor).';
  }
  return kernelIsOld(system.kernel)
    ? `Linux ${system.kernel} is too old for the io_uring driver, which needs 6.0.`
    : 'The kernel was built without io_uring, or this is a sandbox or an emulator that has none.';
}

function aboutRing(facts: Facts): string[] {
  const refused = facts.capabilities.find(({ required, error }) => required && error !== null);
  if (!refused) return [];
  switch (refused.error) {
    case 'EPERM':
    case 'EACCES':
    case 'ENOSYS':
      return [aboutRefusal(facts, refused.error)];
    case 'ENOMEM':
      return [
        'There is no memory for a ring: raise the memory limit of the process (or of its container), on Linux before 5.12 also RLIMIT_MEMLOCK; COMPLETION_PORT_DRIVER=epoll goes without.',
      ];
    case 'EMFILE':
    case 'ENFILE':
      return ['There is no descriptor left for a ring: raise the limit of descriptors.'];
    default:
      return [
        `The io_uring driver needs ${refused.name}, which Linux ${refused.since} brought (this is ${facts.system.kernel}).`,
      ];
  }
}

function aboutSpeed({ driver, capabilities, limits }: Facts): string[] {
  if (driver.name !== 'io_uring') return [];
  const missing = capabilities.filter(({ required, error }) => !required && error !== null);
  const unknown = missing.filter(({ error }) => error === 'EINVAL');
  const advice: string[] = [];
  if (unknown.length > 0) {
    const names = unknown.map(({ name, since }) => `${name} (${since})`).join(', ');
    advice.push(`A newer kernel would make io_uring faster: ${names}.`);
  }
  if (missing.some(({ error }) => error === 'ENOMEM') && limits.lockedMemory) {
    advice.push(
      `RLIMIT_MEMLOCK is ${limits.lockedMemory.soft} bytes, too few to register memory, which makes O_DIRECT faster: raise it (ulimit -l, LimitMEMLOCK).`,
    );
  }
  return advice;
}

function aboutDriver({ driver, status }: Facts): string[] {
  if (driver.chosen === null) return [];
  return status === 'broken'
    ? [
        `COMPLETION_PORT_DRIVER is '${driver.chosen}': unset it to have the first driver that works.`,
      ]
    : [
        `COMPLETION_PORT_DRIVER=${driver.chosen} chooses the driver: unset it to have the first choice.`,
      ];
}

function aboutDescriptors({ limits }: Facts): string[] {
  const { descriptors } = limits;
  if (!descriptors || !isBelow(descriptors, FEW_DESCRIPTORS)) return [];
  return [
    `At most ${descriptors.soft} descriptors: a server runs out of them at as many connections. Raise the limit (ulimit -n, LimitNOFILE).`,
  ];
}

/** One sentence for each thing that can be done about it. */
export function advise(facts: Facts): string[] {
  // A fallback that was asked for is nothing to be cured.
  const wanted = facts.driver.chosen === null || facts.status === 'broken';
  return [
    ...aboutBinary(facts),
    ...(wanted ? aboutRing(facts) : []),
    ...(facts.binary.file === null ? [] : aboutDriver(facts)),
    ...aboutSpeed(facts),
    ...aboutDescriptors(facts),
  ];
}
