// SCM_RIGHTS: what sendmsg and recvmsg are given for descriptors that go along with bytes.
#pragma once

#include <sys/socket.h>

#include "driver/operation.h"

namespace cp::driver {

/// The header for kSendHandles or kReceiveHandles, in the operation's scratch: valid until its
/// completion.
struct msghdr* passing_header(Operation& operation);

/// After recvmsg with that header: what came belongs to the operation.
void take_passed(Operation& operation);

}  // namespace cp::driver
