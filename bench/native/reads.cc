// Reads a file, many reads at a time, on io_uring itself or on this library's core.
#include "support/reads.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "support/arguments.h"
#include "support/json.h"

namespace cp::bench {
namespace {

constexpr const char* kHelp =
    "reads: reads of a file or device per second\n"
    "  --file F          is not changed; /dev/zero will do for --pattern sequential\n"
    "  --engine E        raw: io_uring itself; core: this library's core (core)\n"
    "  --driver D        of the core: io_uring or epoll (what the library would take)\n"
    "  --pattern P       random or sequential (random)\n"
    "  --size N          bytes of a read (4096; sequential: 1048576)\n"
    "  --depth N         reads under way (128; sequential: 8)\n"
    "  --direct          O_DIRECT, into registered memory\n"
    "  --seconds N       (3)\n";

std::uint64_t length_of(const char* file) {
  struct stat status {};
  if (stat(file, &status) < 0) die(file);
  if (S_ISREG(status.st_mode) && status.st_size == 0) die(file, ENODATA);
  if (!S_ISBLK(status.st_mode)) return static_cast<std::uint64_t>(status.st_size);
  const int fd = open(file, O_RDONLY | O_CLOEXEC);
  if (fd < 0) die(file);
  const off_t end = lseek(fd, 0, SEEK_END);
  close(fd);
  return static_cast<std::uint64_t>(std::max<off_t>(end, 0));
}

void print(const ReadOptions& options, const std::string& engine, const ReadCount& count) {
  const double each = static_cast<double>(std::max<std::uint64_t>(count.operations, 1));
  JsonLine line;
  line.add("program", "reads").add("engine", engine).add("file", options.file);
  if (!options.driver.empty()) line.add("driver", options.driver);
  line.add("pattern", options.random ? "random" : "sequential").add("direct", options.direct);
  line.add("size", options.size).add("depth", options.depth).add("seconds", count.seconds);
  line.add("operations", count.operations);
  line.add("operations_per_second", static_cast<double>(count.operations) / count.seconds);
  line.add("gigabytes_per_second", static_cast<double>(count.bytes) / count.seconds / 1e9);
  line.add("cpu_us_per_operation", count.cpu.sum() / each);
  line.add("user_us_per_operation", count.cpu.user / each);
  // Not the same as per operation times size: /dev/zero answers short when a completion interrupts.
  const double mebibytes = static_cast<double>(std::max<std::uint64_t>(count.bytes, 1)) / 1048576;
  line.add("cpu_us_per_mebibyte", count.cpu.sum() / mebibytes);
  line.add("system_calls_per_operation", static_cast<double>(count.system_calls) / each);
  line.add("errors", count.errors).print();
}

}  // namespace
}  // namespace cp::bench

int main(int argc, char** argv) {
  using namespace cp::bench;
  Arguments arguments(argc, argv, kHelp);
  ReadOptions options;
  options.file = arguments.text("--file", "");
  const std::string engine = arguments.text("--engine", "core");
  options.driver = arguments.text("--driver", "");
  const std::string pattern = arguments.text("--pattern", "random");
  options.random = pattern == "random";
  options.size = arguments.count("--size", options.random ? 4096 : 1 << 20, 1, 64 << 20);
  options.depth = arguments.count("--depth", options.random ? 128 : 8, 1, 1024);
  options.direct = arguments.flag("--direct");
  options.seconds = arguments.number("--seconds", 3, 0.05, 3600);
  arguments.end();
  if (options.file.empty()) arguments.fail("--file", "is wanted");
  if (!options.random && pattern != "sequential") arguments.fail("--pattern", "is unknown");
  if (engine != "raw" && engine != "core") arguments.fail("--engine", "is unknown");
  if (1ull * options.size * options.depth > 2ull << 30) arguments.fail("--size", "is too much");
  const std::uint64_t length = length_of(options.file.c_str());
  stop_after(options.seconds);
  const ReadCount count = engine == "raw" ? read_raw(options, length) : read_core(options, length);
  print(options, engine, count);
  return count.errors == 0 && count.operations > 0 ? 0 : 1;
}
