#include "stage/reply.h"

#include "stage/record_table.h"
#include "stage/stash.h"

namespace cp::stage {

std::int64_t lay_reply(Thread& thread, Cargo* cargo, const Answer& answer) {
  const bool none = answer.memory.place.chunk == driver::kNoChunk;
  if (!none && !holds(answer.memory)) return kErrorBufferReleased;
  // Whoever has a document has a place in the queue, too, which comes back with the answer.
  if (cargo == nullptr || !cargo->document.lease) {
    if (!none) BufferPool::release(answer.memory.place);
    return kErrorNotSupported;
  }
  RecordTable::release_reply(*cargo);
  Reply& reply = cargo->reply;
  reply.present = true;
  if (!none) {
    reply.memory = answer.memory;
    BufferPool::assign(answer.memory.place, 0);
  }
  if (answer.file != 0) {
    driver::FileKind kind{};
    reply.file = Port::with_descriptor(answer.file, [&](driver::Descriptor descriptor) {
      return thread.port().driver().duplicate_own(descriptor, kind);
    });
  }
  reply.file_offset = answer.file_offset;
  reply.file_length = answer.file_length;
  reply.closes = answer.closes;
  if (answer.file != 0 && reply.file < 0) {
    const driver::Result error = reply.file;
    reply.file = driver::kNoDescriptor;
    RecordTable::release_reply(*cargo);  // half an answer is none
    return error;
  }
  return cargo->document.stage;
}

}  // namespace cp::stage
