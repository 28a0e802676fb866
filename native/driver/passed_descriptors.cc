#include "driver/passed_descriptors.h"

#include "driver/driver.h"

namespace cp::driver {

void PassedDescriptors::close_all() {
  for (const Descriptor descriptor : numbers) close_file(descriptor);
  numbers.clear();
}

}  // namespace cp::driver
