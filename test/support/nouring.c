/* nouring ERRNO[,statx] COMMAND [ARGUMENT...]
 *
 * Runs a command for which io_uring_setup, io_uring_enter and io_uring_register fail with ERRNO
 * (EPERM, ENOSYS, EINVAL, ENOMEM, EMFILE, EACCES or a number): what containers, hardened kernels
 * and old ones do. With `,statx` that call as well, as in profiles from before 2020. A seccomp
 * filter, so it needs no privilege and ends with the command. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The same numbers on every architecture. */
enum { IO_URING_SETUP = 425, IO_URING_REGISTER = 427 };

static const struct {
  const char* name;
  int number;
} errors[] = {
    {"EPERM", EPERM},   {"ENOSYS", ENOSYS}, {"EINVAL", EINVAL},
    {"ENOMEM", ENOMEM}, {"EMFILE", EMFILE}, {"EACCES", EACCES},
};

static int parse_errno(const char* text) {
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
    if (strcmp(text, errors[i].name) == 0) return errors[i].number;
  return atoi(text);
}

int main(int argc, char** argv) {
  char* comma = argc < 3 ? NULL : strchr(argv[1], ',');
  if (comma != NULL) *comma = 0;
  int error = argc < 3 ? 0 : parse_errno(argv[1]);
  /* A number that no call has, where nothing more is to fail. */
  unsigned other = comma != NULL && strcmp(comma + 1, "statx") == 0 ? SYS_statx : 0xffffffff;
  if (error <= 0 || error > 4095) {
    fprintf(stderr, "usage: nouring EPERM|ENOSYS|EINVAL|ENOMEM|EMFILE|EACCES|NUMBER COMMAND...\n");
    return 2;
  }

  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, other, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, IO_URING_SETUP, 0, 2),
      BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, IO_URING_REGISTER, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    perror("nouring: seccomp");
    return 2;
  }
  execvp(argv[2], argv + 2);
  perror(argv[2]);
  return 127;
}
