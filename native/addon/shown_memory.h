// Memory of ours that JavaScript sees.
#pragma once

#include <napi.h>

#include <cstddef>
#include <memory>

namespace cp::addon {

/// `data`, which `keeper` keeps as long as JavaScript can see it. To a worker that is to end
/// Node.js refuses the ArrayBuffer, and calls no finalizer: the keeper is given up then.
template <typename Keeper, typename Delete>
Napi::ArrayBuffer show(Napi::Env env, void* data, std::size_t size,
                       std::unique_ptr<Keeper, Delete> keeper) {
  const auto give_up = [](Napi::Env, void*, Keeper* kept) { Delete()(kept); };
  const Napi::ArrayBuffer shown = Napi::ArrayBuffer::New(env, data, size, give_up, keeper.get());
  keeper.release();
  return shown;
}

template <typename Kept>
Napi::ArrayBuffer show(Napi::Env env, void* data, std::size_t size,
                       const std::shared_ptr<Kept>& kept) {
  return show(env, data, size, std::make_unique<std::shared_ptr<Kept>>(kept));
}

}  // namespace cp::addon
