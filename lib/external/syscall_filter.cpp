// SPDX-License-Identifier: Apache-2.0
#include "lib/external/syscall_filter.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace plural::external {
namespace {

#if defined(__x86_64__)
constexpr uint32_t kMachine = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kMachine = AUDIT_ARCH_AARCH64;
#else
#error "the sandbox knows the system calls of x86-64 and arm64 only"
#endif

// Calls of the x32 interface carry this bit; nothing that we run uses it.
constexpr uint32_t kX32Bit = 0x40000000;
constexpr uint32_t kNewNamespace = CLONE_NEWCGROUP | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID |
                                   CLONE_NEWUSER | CLONE_NEWUTS;

constexpr long kRefused[] = {
    SYS_unshare,
    SYS_setns,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_open_tree,
    SYS_move_mount,
    SYS_fsopen,
    SYS_fsmount,
    SYS_fsconfig,
    SYS_fspick,
    SYS_shmget,
    SYS_shmat,
    SYS_shmctl,
    SYS_msgget,
    SYS_msgsnd,
    SYS_semget,
    SYS_mq_open,
    SYS_memfd_create,
    SYS_memfd_secret,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_keyctl,
    SYS_add_key,
    SYS_request_key,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_kexec_load,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_open_by_handle_at,
    SYS_name_to_handle_at,
    SYS_fanotify_init,
    SYS_inotify_init1,
    SYS_quotactl,
    SYS_acct,
    SYS_swapon,
    SYS_reboot,
    SYS_personality,
};

constexpr uint32_t kErrno = SECCOMP_RET_ERRNO;

}  // namespace

std::string syscall_filter() {
  std::vector<sock_filter> program;
  const auto load = [&](size_t offset) {
    program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset)));
  };
  const auto answer = [&](uint32_t verdict) { program.push_back(BPF_STMT(BPF_RET | BPF_K, verdict)); };
  // if (A == value) return verdict
  const auto when_equal = [&](uint32_t value, uint32_t verdict) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1));
    answer(verdict);
  };
  load(offsetof(seccomp_data, arch));
  program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kMachine, 1, 0));
  answer(SECCOMP_RET_KILL_PROCESS);
  load(offsetof(seccomp_data, nr));
  program.push_back(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, kX32Bit, 0, 1));
  answer(kErrno | ENOSYS);
  for (const long call : kRefused) when_equal(static_cast<uint32_t>(call), kErrno | EPERM);
  // The flags of clone3 lie in memory, which a filter cannot see; without the call the C library falls back to clone.
  when_equal(SYS_clone3, kErrno | ENOSYS);
  // The low half of the first argument: both machines are little-endian.
  constexpr size_t kFirstArgument = offsetof(seccomp_data, args[0]);
  program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(SYS_clone), 0, 4));
  load(kFirstArgument);
  program.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, kNewNamespace, 0, 1));
  answer(kErrno | EPERM);
  answer(SECCOMP_RET_ALLOW);
  program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(SYS_socket), 1, 0));
  answer(SECCOMP_RET_ALLOW);
  load(kFirstArgument);
  for (const int family : {AF_UNIX, AF_INET, AF_INET6}) when_equal(static_cast<uint32_t>(family), SECCOMP_RET_ALLOW);
  answer(kErrno | EAFNOSUPPORT);
  return {reinterpret_cast<const char*>(program.data()), program.size() * sizeof(sock_filter)};
}

}  // namespace plural::external
