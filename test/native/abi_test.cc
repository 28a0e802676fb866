// Our copy of io_uring's interface against the system's, as far as that one goes.
#include "driver/uring/abi.h"

#include <doctest/doctest.h>
#include <linux/io_uring.h>

#include <cstddef>

namespace uring = cp::driver::uring;

#define CP_SAME_OFFSET(ours, our_member, theirs, their_member) \
  CHECK(offsetof(uring::ours, our_member) == offsetof(theirs, their_member))

TEST_CASE("structures have the system's layout") {
  CHECK(sizeof(uring::Params) == sizeof(io_uring_params));
  CHECK(sizeof(uring::SqOffsets) == sizeof(io_sqring_offsets));
  CHECK(sizeof(uring::CqOffsets) == sizeof(io_cqring_offsets));
  CHECK(sizeof(uring::Sqe) == sizeof(io_uring_sqe));
  CHECK(sizeof(uring::Cqe) == sizeof(io_uring_cqe));
  CHECK(sizeof(uring::BufferEntry) == sizeof(io_uring_buf));
  CHECK(sizeof(uring::BufferRingRegistration) == sizeof(io_uring_buf_reg));
  CHECK(sizeof(uring::GetEventsArgument) == sizeof(io_uring_getevents_arg));
  CHECK(sizeof(uring::ResourceRegistration) == sizeof(io_uring_rsrc_register));
  CHECK(sizeof(uring::ResourceUpdate) == sizeof(io_uring_rsrc_update));
  CHECK(sizeof(uring::ResourceUpdate2) == sizeof(io_uring_rsrc_update2));
  CHECK(sizeof(uring::ProbeOperation) == sizeof(io_uring_probe_op));
  CP_SAME_OFFSET(Params, features, io_uring_params, features);
  CP_SAME_OFFSET(Params, sq, io_uring_params, sq_off);
  CP_SAME_OFFSET(Params, cq, io_uring_params, cq_off);
  CP_SAME_OFFSET(SqOffsets, flags, io_sqring_offsets, flags);
  CP_SAME_OFFSET(SqOffsets, array, io_sqring_offsets, array);
  CP_SAME_OFFSET(CqOffsets, cqes, io_cqring_offsets, cqes);
  CP_SAME_OFFSET(CqOffsets, flags, io_cqring_offsets, flags);
  CP_SAME_OFFSET(Sqe, offset, io_uring_sqe, off);
  CP_SAME_OFFSET(Sqe, address, io_uring_sqe, addr);
  CP_SAME_OFFSET(Sqe, op_flags, io_uring_sqe, rw_flags);
  CP_SAME_OFFSET(Sqe, user_data, io_uring_sqe, user_data);
  CP_SAME_OFFSET(Sqe, buffer, io_uring_sqe, buf_group);
  CP_SAME_OFFSET(BufferEntry, id, io_uring_buf, bid);
  CP_SAME_OFFSET(BufferEntry, reserved, io_uring_buf, resv);
  CP_SAME_OFFSET(BufferRingRegistration, group, io_uring_buf_reg, bgid);
  CP_SAME_OFFSET(GetEventsArgument, timespec, io_uring_getevents_arg, ts);
  CP_SAME_OFFSET(ResourceUpdate2, count, io_uring_rsrc_update2, nr);
  CP_SAME_OFFSET(Probe, operations, io_uring_probe, ops);
}

TEST_CASE("constants have the system's values") {
  CHECK(uring::kSetupCqSize == IORING_SETUP_CQSIZE);
  CHECK(uring::kSetupClamp == IORING_SETUP_CLAMP);
  CHECK(uring::kSetupSubmitAll == IORING_SETUP_SUBMIT_ALL);
  CHECK(uring::kSetupCoopTaskrun == IORING_SETUP_COOP_TASKRUN);
  CHECK(uring::kSetupTaskrunFlag == IORING_SETUP_TASKRUN_FLAG);
  CHECK(uring::kSetupSingleIssuer == IORING_SETUP_SINGLE_ISSUER);
  CHECK(uring::kSetupDeferTaskrun == IORING_SETUP_DEFER_TASKRUN);
  CHECK(uring::kFeatureSingleMmap == IORING_FEAT_SINGLE_MMAP);
  CHECK(uring::kFeatureNoDrop == IORING_FEAT_NODROP);
  CHECK(uring::kFeatureExtArg == IORING_FEAT_EXT_ARG);
  CHECK(uring::kEnterGetEvents == IORING_ENTER_GETEVENTS);
  CHECK(uring::kEnterExtArg == IORING_ENTER_EXT_ARG);
  CHECK(uring::kEnterRegisteredRing == IORING_ENTER_REGISTERED_RING);
  CHECK(uring::kSqCqOverflow == IORING_SQ_CQ_OVERFLOW);
  CHECK(uring::kSqTaskrun == IORING_SQ_TASKRUN);
  CHECK(uring::kCqEventfdDisabled == IORING_CQ_EVENTFD_DISABLED);
  CHECK(uring::kSqeBufferSelect == IOSQE_BUFFER_SELECT);
  CHECK(uring::kCqeBuffer == IORING_CQE_F_BUFFER);
  CHECK(uring::kCqeMore == IORING_CQE_F_MORE);
  CHECK(uring::kCqeSockNonEmpty == IORING_CQE_F_SOCK_NONEMPTY);
  CHECK(uring::kCqeBufferShift == IORING_CQE_BUFFER_SHIFT);
  CHECK(uring::kRegisterEventfd == IORING_REGISTER_EVENTFD);
  CHECK(uring::kRegisterProbe == IORING_REGISTER_PROBE);
  CHECK(uring::kRegisterBuffers2 == IORING_REGISTER_BUFFERS2);
  CHECK(uring::kRegisterBuffersUpdate == IORING_REGISTER_BUFFERS_UPDATE);
  CHECK(uring::kRegisterIowqMaxWorkers == IORING_REGISTER_IOWQ_MAX_WORKERS);
  CHECK(uring::kRegisterRingFds == IORING_REGISTER_RING_FDS);
  CHECK(uring::kUnregisterRingFds == IORING_UNREGISTER_RING_FDS);
  CHECK(uring::kRegisterBufferRing == IORING_REGISTER_PBUF_RING);
  CHECK(uring::kResourceSparse == IORING_RSRC_REGISTER_SPARSE);
  CHECK(uring::kProbeSupported == IO_URING_OP_SUPPORTED);
  CHECK(uring::kFsyncDatasync == IORING_FSYNC_DATASYNC);
  CHECK(uring::kPollMultishot == IORING_POLL_ADD_MULTI);
  CHECK(uring::kAcceptMultishot == IORING_ACCEPT_MULTISHOT);
  CHECK(uring::kReceivePollFirst == IORING_RECVSEND_POLL_FIRST);
  CHECK(uring::kReceiveMultishot == IORING_RECV_MULTISHOT);
  CHECK(uring::kTimeoutAbsolute == IORING_TIMEOUT_ABS);
  CHECK(uring::kTimeoutUpdate == IORING_TIMEOUT_UPDATE);
}

TEST_CASE("operations have the system's numbers") {
  CHECK(uring::kOpNop == IORING_OP_NOP);
  CHECK(uring::kOpReadv == IORING_OP_READV);
  CHECK(uring::kOpWritev == IORING_OP_WRITEV);
  CHECK(uring::kOpFsync == IORING_OP_FSYNC);
  CHECK(uring::kOpReadFixed == IORING_OP_READ_FIXED);
  CHECK(uring::kOpWriteFixed == IORING_OP_WRITE_FIXED);
  CHECK(uring::kOpPollAdd == IORING_OP_POLL_ADD);
  CHECK(uring::kOpSendmsg == IORING_OP_SENDMSG);
  CHECK(uring::kOpTimeout == IORING_OP_TIMEOUT);
  CHECK(uring::kOpTimeoutRemove == IORING_OP_TIMEOUT_REMOVE);
  CHECK(uring::kOpAccept == IORING_OP_ACCEPT);
  CHECK(uring::kOpAsyncCancel == IORING_OP_ASYNC_CANCEL);
  CHECK(uring::kOpConnect == IORING_OP_CONNECT);
  CHECK(uring::kOpFallocate == IORING_OP_FALLOCATE);
  CHECK(uring::kOpOpenat == IORING_OP_OPENAT);
  CHECK(uring::kOpClose == IORING_OP_CLOSE);
  CHECK(uring::kOpRead == IORING_OP_READ);
  CHECK(uring::kOpWrite == IORING_OP_WRITE);
  CHECK(uring::kOpSend == IORING_OP_SEND);
  CHECK(uring::kOpRecv == IORING_OP_RECV);
  CHECK(uring::kOpSendZc == IORING_OP_SEND_ZC);
}
