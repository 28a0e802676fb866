// File descriptors as JavaScript knows them.
#pragma once

#include "driver/operation.h"

namespace cp::addon {

/// What a descriptor of the process stands for to the driver; kNoDescriptor when it is not open.
driver::Descriptor native_descriptor(int descriptor);

}  // namespace cp::addon
