// simulate --seeds N [--from SEED] | --seed X [--trace]: see run.mjs, which starts several of
// these.
//
// Each seed runs in a process of its own, forked from this one, which has touched nothing of the
// library: so no world sees anything of another, and one that crashes is a seed that failed.
#include <sys/personality.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "sim/simulation.h"

namespace {

using cp::test::Outcome;
using cp::test::Plan;

struct Result {
  bool held = false;
  Outcome outcome;
  std::string text;  ///< what it printed
  std::string property() const {
    const std::size_t at = text.rfind("FAILED ");
    if (at == std::string::npos) return "crash";
    const std::size_t from = at + 7;
    return text.substr(from, text.find(':', from) - from);
  }
};

/// Runs one in a process of its own, and gathers what it prints.
Result run(const Plan& plan, unsigned seconds) {
  int ends[2];
  if (::pipe(ends) != 0) std::abort();
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], 1);
    ::dup2(ends[1], 2);
    ::close(ends[0]);
    ::close(ends[1]);
    ::alarm(seconds);
    const Outcome it = cp::test::simulate(plan);
    std::printf("HELD %llu %llu %llu %llu\n", static_cast<unsigned long long>(it.hash),
                static_cast<unsigned long long>(it.steps),
                static_cast<unsigned long long>(it.interruptions),
                static_cast<unsigned long long>(it.faults));
    std::fflush(stdout);
    ::_exit(0);
  }
  ::close(ends[1]);
  Result result;
  char part[65536];
  for (ssize_t got; (got = ::read(ends[0], part, sizeof part)) > 0;) {
    result.text.append(part, static_cast<std::size_t>(got));
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  const std::size_t held = result.text.rfind("HELD ");
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && held != std::string::npos) {
    result.held = true;
    unsigned long long n[4] = {};
    std::sscanf(result.text.c_str() + held, "HELD %llu %llu %llu %llu", n, n + 1, n + 2, n + 3);
    result.outcome = {n[0], n[1], n[2], n[3], 0};
  } else if (WIFSIGNALED(status)) {
    result.text.insert(0, "FAILED crash: ");
    result.text += "\nended by signal " + std::to_string(WTERMSIG(status)) + "\n";
  }
  return result;
}

/// Steps are numbered by thread, a thousand for each.
constexpr std::uint32_t kThreads = 7, kSteps = 32;
template <typename Visit>
void each_step(Visit visit) {
  for (std::uint32_t thread = 1; thread <= kThreads; ++thread) {
    for (std::uint32_t i = 0; i < kSteps; ++i) visit(thread * 1000 + i);
  }
}

struct Arguments {
  std::uint64_t from = 1, seeds = 100;
  double minutes = 0;
  bool one = false, twice = false, keep_going = false, minimize = false;
  Plan plan;
};

[[noreturn]] void usage() {
  std::fputs(
      "simulate [--seeds N] [--from SEED] [--minutes M] [--workload NAME] [--planted NAME]\n"
      "         [--twice] [--keep-going]\n"
      "simulate --seed SEED [--trace | --minimize] [--interruptions N] [--faults N]\n"
      "         [--without-faults MASK] [--only-steps STEP,...]\n",
      stderr);
  std::exit(2);
}

Arguments parse(int count, char** words) {
  Arguments out;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    const auto next = [&]() -> const char* {
      if (i + 1 >= count) usage();
      return words[++i];
    };
    if (word == "--seeds") {
      out.seeds = std::strtoull(next(), nullptr, 10);
    } else if (word == "--from") {
      out.from = std::strtoull(next(), nullptr, 10);
    } else if (word == "--minutes") {
      out.minutes = std::strtod(next(), nullptr);
    } else if (word == "--seed") {
      out.one = true;
      out.plan.seed = std::strtoull(next(), nullptr, 10);
    } else if (word == "--workload") {
      out.plan.workload = next();
    } else if (word == "--planted") {
      out.plan.planted = next();
    } else if (word == "--interruptions") {
      out.plan.most_interruptions = std::strtoull(next(), nullptr, 10);
    } else if (word == "--faults") {
      out.plan.most_faults = std::strtoull(next(), nullptr, 10);
    } else if (word == "--without-faults") {
      out.plan.without_faults = std::strtoull(next(), nullptr, 10);
    } else if (word == "--only-steps") {
      each_step([&](std::uint32_t step) { out.plan.without_steps.insert(step); });
      for (const char* at = next(); *at != '\0';) {
        char* end = nullptr;
        out.plan.without_steps.erase(static_cast<std::uint32_t>(std::strtoul(at, &end, 10)));
        at = *end == ',' ? end + 1 : end;
      }
    } else if (word == "--minimize") {
      out.minimize = true;
    } else if (word == "--trace") {
      out.plan.verbose = true;
    } else if (word == "--twice") {
      out.twice = true;
    } else if (word == "--keep-going") {
      out.keep_going = true;
    } else {
      usage();
    }
  }
  return out;
}

constexpr unsigned kSeconds = 120;

// ---- a seed that fails, made small --------------------------------------------------------------

/// Leaves out as much as it can of the program, the faults and the interruptions, as long as the
/// same property fails.
class Minimizer {
 public:
  Minimizer(const Plan& plan, const std::string& property) : plan_(plan), property_(property) {}

  Plan smallest() {
    drop_steps();
    drop_faults();
    lower(&Plan::most_faults, 4096);
    lower(&Plan::most_interruptions, 1 << 20);
    drop_steps();
    return plan_;
  }

 private:
  bool fails(const Plan& plan) {
    const Result result = run(plan, kSeconds);
    return !result.held && result.property() == property_;
  }
  void adopt(const Plan& plan) {
    if (fails(plan)) plan_ = plan;
  }

  /// First those of whole threads, then ever smaller parts.
  void drop_steps() {
    for (std::uint32_t size = kSteps; size > 0; size /= 2) {
      for (std::uint32_t thread = 1; thread <= kThreads; ++thread) {
        for (std::uint32_t first = 0; first < kSteps; first += size) {
          Plan fewer = plan_;
          for (std::uint32_t i = first; i < first + size; ++i) {
            fewer.without_steps.insert(thread * 1000 + i);
          }
          if (fewer.without_steps != plan_.without_steps) adopt(fewer);
        }
      }
    }
  }

  void drop_faults() {
    for (std::uint32_t kind = 0; kind < cp::test::fault_kinds(); ++kind) {
      Plan fewer = plan_;
      fewer.without_faults |= 1ull << kind;
      adopt(fewer);
    }
  }

  /// More is not always worse: what is found is small, not the smallest.
  void lower(std::uint64_t Plan::*limit, std::uint64_t most) {
    Plan plan = plan_;
    std::uint64_t low = 0, high = most;
    plan.*limit = high;
    if (!fails(plan)) return;
    plan_ = plan;
    while (low < high) {
      const std::uint64_t middle = low + (high - low) / 2;
      plan.*limit = middle;
      if (fails(plan)) {
        plan_ = plan;
        high = middle;
      } else {
        low = middle + 1;
      }
    }
  }

  Plan plan_;
  const std::string property_;
};

std::string describe(const Plan& plan) {
  std::string text = "--seed " + std::to_string(plan.seed);
  if (!plan.workload.empty()) text += " --workload " + plan.workload;
  if (!plan.planted.empty()) text += " --planted '" + plan.planted + "'";
  if (plan.most_faults != UINT64_MAX) text += " --faults " + std::to_string(plan.most_faults);
  if (plan.without_faults != 0) text += " --without-faults " + std::to_string(plan.without_faults);
  if (plan.most_interruptions != UINT64_MAX) {
    text += " --interruptions " + std::to_string(plan.most_interruptions);
  }
  if (!plan.without_steps.empty()) {
    text += " --only-steps ";
    each_step([&](std::uint32_t step) {
      if (!plan.without_steps.contains(step)) text += std::to_string(step) + ",";
    });
    text.pop_back();
  }
  return text;
}

int run_one(const Arguments& arguments) {
  Result result = run(arguments.plan, kSeconds);
  if (!result.held && arguments.minimize) {
    Plan smallest = Minimizer(arguments.plan, result.property()).smallest();
    smallest.verbose = true;
    std::printf("simulate %s\n", describe(smallest).c_str());
    result = run(smallest, kSeconds);
  }
  std::fputs(result.text.c_str(), stdout);
  return result.held ? 0 : 1;
}

int run_many(const Arguments& arguments) {
  const auto begin = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  std::uint64_t ran = 0, failed = 0, steps = 0;
  for (std::uint64_t seed = arguments.from; ran < arguments.seeds; ++seed, ++ran) {
    if (arguments.minutes > 0 && seconds() > arguments.minutes * 60) break;
    Plan plan = arguments.plan;
    plan.seed = seed;
    const Result result = run(plan, kSeconds);
    steps += result.outcome.steps;
    if (result.held && arguments.twice) {
      const Result again = run(plan, kSeconds);
      if (again.outcome.hash != result.outcome.hash) {
        std::printf("seed %llu ran otherwise the second time\n",
                    static_cast<unsigned long long>(seed));
        ++failed;
        if (!arguments.keep_going) break;
      }
    }
    if (result.held) continue;
    ++failed;
    std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), result.text.c_str());
    std::fflush(stdout);
    if (!arguments.keep_going) {
      ++ran;
      break;
    }
  }
  std::printf("%llu seeds, %llu failed, %llu steps, %.1f seconds\n",
              static_cast<unsigned long long>(ran), static_cast<unsigned long long>(failed),
              static_cast<unsigned long long>(steps), seconds());
  return failed == 0 ? 0 : 1;
}

}  // namespace

int main(int count, char** words) {
  // Where memory lies is to be the same each time, so that a seed is all there is to a run.
  const int now = ::personality(0xffffffff);
  if (now != -1 && (now & ADDR_NO_RANDOMIZE) == 0 && std::getenv("CP_SIMULATE_AGAIN") == nullptr) {
    ::setenv("CP_SIMULATE_AGAIN", "1", 1);
    if (::personality(static_cast<unsigned long>(now) | ADDR_NO_RANDOMIZE) != -1) {
      ::execv("/proc/self/exe", words);
    }
  }
  const Arguments arguments = parse(count, words);
  return arguments.one ? run_one(arguments) : run_many(arguments);
}
