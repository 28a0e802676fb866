// Handing connections, with their records, on to another stage.
#pragma once

#include <cstdint>

#include "port/port.h"
#include "stage/record_table.h"

namespace cp::stage {

/// Several that one thread hands on in one go. One wake-up is enough for all that go to one port,
/// and a thread that is woken by the first would take the processor from the one that hands over
/// the rest: the port is told when the next one goes elsewhere, or at the end.
class HandOffs {
 public:
  HandOffs() = default;
  HandOffs(const HandOffs&) = delete;
  HandOffs& operator=(const HandOffs&) = delete;
  ~HandOffs() { tell(); }

  /// The connection `key`, from `here` to the port of number `target`. `handle` 0: it has a key
  /// alone. One that is gone, or was handed on before, is left alone; one that can't go is told so
  /// where it is, by a kHandOff packet with the error.
  void hand_off(Port& here, HandleId handle, std::uint32_t key, std::uint32_t target,
                const RecordTable& records);

 private:
  Port* find(std::uint32_t number);
  void tell() const;

  PortHold port_;  ///< to which some were handed that no thread was told of
};

/// A message whose connection has gone on to another port follows it. Its bytes, where it has any,
/// are held by the caller, who goes on to do so: what is posted holds them, too.
void forward(const Packet& message, std::uint32_t target);

}  // namespace cp::stage
