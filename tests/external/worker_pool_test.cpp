// SPDX-License-Identifier: Apache-2.0
#include "lib/external/worker_pool.h"

#include <set>
#include <thread>

#include "plural/error.h"
#include "tests/external/external_support.h"

using namespace plural;
using namespace plural::external;
using namespace plural::testing;
using Json = nlohmann::json;

namespace {

WorkerOptions options(const std::string& greeting = "good") {
  WorkerOptions o;
  o.command = {python(), source_dir() + "/tests/external/worker.py", greeting};
  o.workers = 2;
  o.batch = 3;
  o.time_limit_s = 20;
  return o;
}

Json text(int i) { return {{"text", "item " + std::to_string(i)}}; }

}  // namespace

TEST_CASE("results come back in the order of the items, from all workers") {
  const int64_t descriptors = open_descriptors();
  {
    WorkerPool pool(options());
    CHECK(children() == 0);  // nothing runs before it is needed
    std::vector<Json> items;
    for (int i = 0; i < 50; ++i) items.push_back(text(i));
    items[20]["do"] = "sleep";
    items[20]["seconds"] = 0.3;  // so that the other worker takes over the rest
    const WorkerAnswers answers = pool.ask("score", items);
    std::set<int64_t> pids;
    for (int i = 0; i < 50; ++i) {
      CHECK(answers.results[i]["echo"] == "item " + std::to_string(i));
      pids.insert(answers.results[i]["pid"].get<int64_t>());
    }
    CHECK(pids.size() == 2);
    CHECK(answers.failures == 0);
    CHECK(answers.starts == 2);
    CHECK(pool.ask("score", items).starts == 0);  // workers stay
    CHECK(pool.ask("score", {}).results.empty());
    CHECK(children() == 2);
  }
  CHECK(children() == 0);
  CHECK(open_descriptors() == descriptors);
}

TEST_CASE("a worker that dies, hangs or talks nonsense costs only the item at fault") {
  for (const std::string wish : {"exit", "garbage", "wrong id", "too few", "sleep"}) {
    INFO(wish);
    WorkerOptions o = options();
    o.workers = 1;
    o.time_limit_s = wish == "sleep" ? 0.5 : 20;
    WorkerPool pool(o);
    std::vector<Json> items = {text(0), text(1), text(2)};
    items[1]["do"] = wish;
    items[1]["seconds"] = 1000;
    const WorkerAnswers answers = pool.ask("score", items);
    CHECK(answers.results[0]["echo"] == "item 0");
    CHECK(answers.results[1].is_null());
    CHECK(answers.results[2]["echo"] == "item 2");
    CHECK(answers.failures == 1);
    // The batch of three, then the item alone.
    CHECK(answers.time_outs == (wish == "sleep" ? 2 : 0));
    CHECK(answers.crashes == (wish == "sleep" ? 0 : 2));
    CHECK(answers.starts == 3);  // the first one, and one after each failure
    CHECK_FALSE(answers.problem.empty());
    CHECK(pool.ask("score", {text(9)}).results[0]["echo"] == "item 9");
  }
  CHECK(children() == 0);
}

TEST_CASE("an error that the worker states fails its item and no other") {
  WorkerPool pool(options());
  std::vector<Json> items = {text(0), text(1)};
  items[0]["do"] = "error";
  const WorkerAnswers answers = pool.ask("score", items);
  CHECK(answers.results[0].is_null());
  CHECK(answers.results[1]["echo"] == "item 1");
  CHECK(answers.failures == 1);
  CHECK(answers.crashes == 0);
  CHECK(answers.problem == "{\"error\":\"cannot\"}");
}

TEST_CASE("a worker that ended between two calls is replaced") {
  WorkerOptions o = options();
  o.workers = 1;
  WorkerPool pool(o);
  CHECK(pool.ask("score", {{{"text", "a"}, {"do", "leave"}}}).failures == 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // it has left; the next request finds nobody
  const WorkerAnswers answers = pool.ask("score", {text(1), text(2)});
  CHECK(answers.failures == 0);
  CHECK(answers.crashes == 1);
  CHECK(answers.results[1]["echo"] == "item 2");
}

TEST_CASE("a command that never works is an InputError that says why") {
  CHECK_THROWS_WITH(WorkerPool(options("die")).ask("score", {text(0)}),
                    Catch::Contains("no greeting: it ended (exit code 4)"));
  CHECK_THROWS_WITH(WorkerPool(options("old")).ask("score", {text(0)}), Catch::Contains("\"plural_worker\": 1"));
  WorkerOptions silent = options("silent");
  silent.start_limit_s = 0.3;
  CHECK_THROWS_WITH(WorkerPool(silent).ask("score", {text(0)}), Catch::Contains("out of time"));
  WorkerOptions missing = options();
  missing.command = {"no-such-worker"};
  CHECK_THROWS_AS(WorkerPool(missing).ask("score", {text(0)}), InputError);
  CHECK(children() == 0);
}

TEST_CASE("a request to stop ends the wait, whatever the worker does") {
  WorkerOptions o = options();
  o.time_limit_s = 600;
  WorkerPool pool(o);
  pool.ask("score", {text(0)});
  std::stop_source stop;
  std::jthread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    stop.request_stop();
  });
  std::vector<Json> items(10, {{"do", "sleep"}, {"seconds", 1000}});
  WorkerAnswers answers;
  CHECK(seconds_of([&] { answers = pool.ask("score", items, stop.get_token()); }) < 10);
  CHECK(answers.failures == 10);
  CHECK(pool.ask("score", {text(5)}).results[0]["echo"] == "item 5");
}

TEST_CASE("many callers share a pool") {
  WorkerPool pool(options());
  std::atomic<int> good{0};
  {
    std::vector<std::jthread> callers;
    for (int t = 0; t < 6; ++t)
      callers.emplace_back([&, t] {
        const WorkerAnswers answers = pool.ask("score", {text(t), text(t + 100)});
        good += answers.results[0].value("echo", "") == "item " + std::to_string(t) &&
                answers.results[1].value("echo", "") == "item " + std::to_string(t + 100);
      });
  }
  CHECK(good == 6);
  CHECK(children() == 2);
}
