// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace plural::external {

/// A seccomp program (struct sock_filter[]) for `bwrap --seccomp`: refuses what programs of rewards have no use for and
/// what resource limits do not bound or kernels were broken with: new namespaces, mounts, shared memory segments,
/// memory files, tracing, keys, BPF, io_uring, and sockets of other families than local and internet ones (AF_VSOCK
/// leads out of a virtual machine whatever the network namespace).
std::string syscall_filter();

}  // namespace plural::external
