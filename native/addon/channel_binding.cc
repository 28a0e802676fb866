#include "addon/channel_binding.h"

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>

#include "addon/shown_memory.h"
#include "addon/ticket_function.h"
#include "port/buffer_pool.h"
#include "port/shared_queue.h"

namespace cp::addon {
namespace {

using Info = const Napi::CallbackInfo&;

/// Where an item's parts lie in the array: lib/native/binding.ts has the same.
enum Part { kForm, kNumber, kChunk, kStart, kLength, kParts };
/// How a put is meant: lib/native/binding.ts has the same.
constexpr std::uint32_t kWaits = 1;
/// The item has a block to itself, which the program owns.
constexpr std::uint32_t kOwnBlock = 2;

/// Of the calling environment. A thread-safe function wakes its event loop, once for each put or
/// take that it waited for.
class ThreadChannels final : public QueueUser {
 public:
  bool open(Napi::Env env, Napi::Function told, Napi::Float64Array item, Napi::Uint8Array small) {
    item_keeper_ = Napi::Persistent(item);
    item_ = item.Data();
    small_keeper_ = Napi::Persistent(small);
    small_ = small.Data();
    small_size_ = small.ByteLength();
    // What keeps the process alive is the port's own notifier.
    if (!function_.make(env, told, "completion-port channels", this, on_final)) return false;
    napi_add_env_cleanup_hook(env, on_cleanup, this);
    return true;
  }

  std::uint32_t make(std::uint32_t capacity) {
    const std::shared_ptr<SharedQueue> queue = SharedQueue::make(capacity);
    joined_[queue->id()] = {queue, 1};
    return queue->id();
  }

  bool join(std::uint32_t id) {
    const auto found = joined_.find(id);
    if (found != joined_.end()) return ++found->second.times > 0;
    const std::shared_ptr<SharedQueue> queue = SharedQueue::find(id);
    if (queue) joined_[id] = {queue, 1};
    return queue != nullptr;
  }

  void quit(std::uint32_t id) {
    const auto found = joined_.find(id);
    if (found == joined_.end() || --found->second.times > 0) return;
    found->second.queue->leave(*this);
    joined_.erase(found);
  }

  SharedQueue* queue(std::uint32_t id) {
    const auto found = joined_.find(id);
    return found == joined_.end() ? nullptr : found->second.queue.get();
  }

  /// Of a put that was not done, the memory is the program's as before.
  QueueOutcome put(std::uint32_t id, std::uint32_t ticket, std::uint32_t how) {
    SharedQueue* const to = queue(id);
    if (to == nullptr) return QueueOutcome::kGone;
    SharedItem item;
    item.form = static_cast<std::uint32_t>(item_[kForm]);
    item.number = item_[kNumber];
    item.length = static_cast<std::uint32_t>(item_[kLength]);
    if (item.length > 0) {
      item.place = {static_cast<std::uint32_t>(item_[kChunk]),
                    static_cast<std::uint32_t>(item_[kStart])};
      if (BufferPool::use(item.place, item.length) == nullptr) return QueueOutcome::kGone;
    }
    const QueueOutcome outcome = to->put(*this, ticket, item, (how & kWaits) != 0);
    if (item.length == 0) return outcome;
    const bool theirs = outcome == QueueOutcome::kDone || outcome == QueueOutcome::kWaits;
    // The block goes on as long as the queue uses it.
    if (theirs && (how & kOwnBlock) != 0) BufferPool::release(item.place);
    if (!theirs) BufferPool::unuse(item.place);
    return outcome;
  }

  QueueOutcome take(std::uint32_t id, std::uint32_t ticket, bool waits) {
    SharedQueue* const from = queue(id);
    if (from == nullptr) return QueueOutcome::kGone;
    SharedItem item;
    return show(from->take(*this, ticket, waits, item), item);
  }

  QueueOutcome hear(std::uint32_t id, std::uint32_t ticket) {
    SharedQueue* const from = queue(id);
    if (from == nullptr) return QueueOutcome::kGone;
    SharedItem item;
    return show(from->hear(*this, ticket, item), item);
  }

  QueueOutcome leave(std::uint32_t id, std::uint32_t ticket) {
    SharedQueue* const from = queue(id);
    return from == nullptr ? QueueOutcome::kGone : from->leave(*this, ticket);
  }

  /// The program has read what the last item has in memory.
  void finish() {
    if (reading_.chunk == driver::kNoChunk) return;
    const Place read = reading_;
    reading_ = {};
    BufferPool::unuse(read);
  }

 private:
  struct Joined {
    std::shared_ptr<SharedQueue> queue;
    std::uint32_t times = 0;
  };

  QueueOutcome show(QueueOutcome outcome, const SharedItem& item) {
    item_[kForm] = item.form;
    item_[kNumber] = item.number;
    item_[kChunk] = item.place.chunk;
    item_[kStart] = item.place.offset;
    item_[kLength] = item.length;
    if (item.length == 0) return outcome;
    finish();
    if (item.length <= small_size_)
      show_small(item);
    else
      reading_ = item.place;
    return outcome;
  }

  /// Its memory goes back now: the program need not say that it has read it.
  void show_small(const SharedItem& item) {
    // The use that the item has keeps the chunk.
    const Chunk& chunk = *Chunk::find(item.place.chunk);
    std::memcpy(small_, chunk.base() + item.place.offset, item.length);
    item_[kChunk] = driver::kNoChunk;
    item_[kStart] = 0;
    BufferPool::unuse(item.place);
  }

  bool tell(std::uint32_t ticket) override { return function_.call(ticket); }

  /// The environment ends: what it waits for goes to the others, and so does what it was told of.
  static void on_cleanup(void* context) {
    auto& self = *static_cast<ThreadChannels*>(context);
    for (auto& [id, joined] : self.joined_) joined.queue->leave(self);
    self.joined_.clear();
    self.finish();
    self.item_keeper_.Reset();
    self.small_keeper_.Reset();
  }
  static void on_final(napi_env, void*, void* context) {
    delete static_cast<ThreadChannels*>(context);
  }

  TicketFunction function_;
  Napi::Reference<Napi::Float64Array> item_keeper_;
  double* item_ = nullptr;
  Napi::Reference<Napi::Uint8Array> small_keeper_;
  std::uint8_t* small_ = nullptr;
  std::size_t small_size_ = 0;
  std::unordered_map<std::uint32_t, Joined> joined_;
  Place reading_;  ///< used until `finish`
};

/// Calls that come once for each item pass by Napi::CallbackInfo, which costs more than the rest.
constexpr std::size_t kMostArguments = 3;
using Hot = QueueOutcome (*)(ThreadChannels& self, const std::uint32_t* arguments);

template <Hot function>
napi_value hot(napi_env env, napi_callback_info info) {
  napi_value given[kMostArguments];
  std::size_t count = kMostArguments;
  void* self = nullptr;
  napi_get_cb_info(env, info, &count, given, nullptr, &self);
  std::uint32_t arguments[kMostArguments] = {};
  for (std::size_t i = 0; i < kMostArguments; ++i) {
    napi_get_value_uint32(env, given[i], &arguments[i]);
  }
  napi_value out = nullptr;
  const QueueOutcome outcome = function(*static_cast<ThreadChannels*>(self), arguments);
  napi_create_uint32(env, static_cast<std::uint32_t>(outcome), &out);
  return out;
}

QueueOutcome put(ThreadChannels& self, const std::uint32_t* arguments) {
  return self.put(arguments[0], arguments[1], arguments[2]);
}
QueueOutcome take(ThreadChannels& self, const std::uint32_t* arguments) {
  return self.take(arguments[0], arguments[1], arguments[2] != 0);
}
QueueOutcome hear(ThreadChannels& self, const std::uint32_t* arguments) {
  return self.hear(arguments[0], arguments[1]);
}
QueueOutcome leave(ThreadChannels& self, const std::uint32_t* arguments) {
  return self.leave(arguments[0], arguments[1]);
}
QueueOutcome finish(ThreadChannels& self, const std::uint32_t*) {
  self.finish();
  return QueueOutcome::kDone;
}

ThreadChannels& self(Info info) { return *static_cast<ThreadChannels*>(info.Data()); }

std::uint32_t queue_number(Info info) { return info[0].As<Napi::Number>().Uint32Value(); }

Napi::Value make(Info info) {
  return Napi::Number::New(info.Env(), self(info).make(queue_number(info)));
}

Napi::Value join(Info info) {
  return Napi::Boolean::New(info.Env(), self(info).join(queue_number(info)));
}

Napi::Value quit(Info info) {
  self(info).quit(queue_number(info));
  return info.Env().Undefined();
}

/// Seen as long as the view is, also when the queue is gone.
Napi::Value shown(Info info) {
  const SharedQueue* const queue = self(info).queue(queue_number(info));
  if (queue == nullptr) return info.Env().Undefined();
  const std::shared_ptr<SharedQueue::Shown> kept = queue->shown();
  return show(info.Env(), kept.get(), sizeof(SharedQueue::Shown), kept);
}

Napi::Value close(Info info) {
  SharedQueue* const queue = self(info).queue(queue_number(info));
  if (queue != nullptr) queue->close();
  return info.Env().Undefined();
}

Napi::Value fail(Info info) {
  SharedQueue* const queue = self(info).queue(queue_number(info));
  const auto why = info[1].As<Napi::Uint8Array>();
  if (queue != nullptr) {
    queue->fail(std::string(reinterpret_cast<const char*>(why.Data()), why.ByteLength()));
  }
  return info.Env().Undefined();
}

Napi::Value failure(Info info) {
  const SharedQueue* const queue = self(info).queue(queue_number(info));
  const std::string why = queue == nullptr ? "" : queue->failure();
  return Napi::Buffer<char>::Copy(info.Env(), why.data(), why.size());
}

}  // namespace

Napi::Value make_channels(Info info) {
  const Napi::Env env = info.Env();
  auto* const channels = new ThreadChannels;
  if (!channels->open(env, info[0].As<Napi::Function>(), info[1].As<Napi::Float64Array>(),
                      info[2].As<Napi::Uint8Array>())) {
    delete channels;
    throw Napi::Error::New(env, "No event loop to attach to");
  }
  Napi::Object out = Napi::Object::New(env);
  const auto add = [&](const char* name, Napi::Value (*function)(Info)) {
    out.Set(name, Napi::Function::New(env, function, name, channels));
  };
  const auto add_hot = [&](const char* name, napi_callback function) {
    napi_value made = nullptr;
    napi_create_function(env, name, NAPI_AUTO_LENGTH, function, channels, &made);
    out.Set(name, made);
  };
  add_hot("put", hot<put>);
  add_hot("take", hot<take>);
  add_hot("hear", hot<hear>);
  add_hot("leave", hot<leave>);
  add_hot("finish", hot<finish>);
  add("make", make);
  add("join", join);
  add("quit", quit);
  add("shown", shown);
  add("close", close);
  add("fail", fail);
  add("failure", failure);
  return out;
}

}  // namespace cp::addon
