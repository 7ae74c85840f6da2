// Thousands of damaged plans: none may crash the loader, and none that it lets pass may crash a run. The
// sanitizers watch; the mutations are the same on every machine. Checksums are made to hold, so that it is
// the validator that is tried; a part of the mutations changes the bytes of the file instead.
#include "check.hpp"
#include "context.hpp"
#include "cpu.hpp"
#include "error.hpp"
#include "graphs.hpp"
#include "operators/operator.hpp"

namespace {

#if defined(__SANITIZE_THREAD__)
constexpr int kGraphs = 100, kFiles = 50;  // there is one thread here, and it is slow under that sanitizer
#else
constexpr int kGraphs = 2000, kFiles = 600;
#endif

// Loads, and runs what loads, with every instruction set, where that takes moments. Whether it loaded.
bool survives(const std::string& bytes) {
    std::shared_ptr<const ff::Plan> plan;
    try {
        plan = std::make_shared<const ff::Plan>(ff::load_plan(ff::File::copy(bytes.data(), bytes.size())));
    } catch (const ff::Error& error) {
        CHECK(error.status == FF_BAD_PLAN, "%s", error.what());
        return false;
    }
    int64_t work = plan->arena_bytes + plan->ring_bytes;
    for (const ff::Plan::Listed& listed : plan->list) {
        const ff::Node& node = *listed.node;
        const ff::Window* window = ff::operator_of(node.op).window(node.args);
        int64_t each = window ? int64_t{window->kernel_h} * window->kernel_w : 1;
        if (node.op == ff::Op::conv) each *= node.in[ff::kX].channels();
        if (node.op == ff::Op::matmul) each = node.in[ff::kA].elements();
        int64_t elements = node.out.elements();
        for (const ff::View& view : node.in)
            if (view) elements = std::max(elements, view.elements());
        work += each > (1 << 24) || elements > (1 << 24) ? 1 << 30 : each * elements;
    }
    if (work > (1 << 23)) return true;  // a large plan is no bad plan
    std::vector<std::vector<float>> buffers;
    std::vector<const float*> inputs;
    std::vector<float*> outputs;
    for (const ff::View& view : plan->inputs) buffers.emplace_back(static_cast<size_t>(view.elements()), 0.5f);
    for (const ff::View& view : plan->outputs) buffers.emplace_back(static_cast<size_t>(view.elements()));
    for (size_t i = 0; i < buffers.size(); ++i) {
        if (i < plan->inputs.size()) inputs.push_back(buffers[i].data());
        else outputs.push_back(buffers[i].data());
    }
    for (const ff::Kernels* kernels : ff::available_kernels()) {
        try {
            ff::Context(plan, *kernels, 1).run(inputs.data(), outputs.data(), 1);
        } catch (const ff::Error& error) {  // a place that is outside
            CHECK(error.status == FF_BAD_ARGUMENT, "%s", error.what());
        }
    }
    return true;
}

// One number of the text becomes another.
void edit_number(std::string& text, check::Random& random) {
    std::vector<std::pair<size_t, size_t>> numbers;
    for (size_t i = 0; i < text.size();) {
        size_t end = i;
        while (end < text.size() && text[end] >= '0' && text[end] <= '9') ++end;
        if (end > i) numbers.emplace_back(i, end - i);
        i = end + 1;
    }
    const auto [at, size] = numbers[static_cast<size_t>(random.between(0, static_cast<int64_t>(numbers.size()) - 1))];
    const long long old = std::min(std::strtoll(text.substr(at, size).c_str(), nullptr, 10), 1LL << 60);
    const long long edits[] = {old + 1, old - 1,   old * 2,    old / 2,      0,         1,  2, old + 16,
                               -old,    1LL << 20, 2147483647, 4294967296LL, INT64_MAX, 64, 3};
    text.replace(at, size, std::to_string(edits[random.between(0, static_cast<int64_t>(std::size(edits)) - 1)]));
}

// Two stretches change places, or one is taken out or doubled; what stands between commas and brackets.
void edit_structure(std::string& text, check::Random& random) {
    const auto boundary = [&] {
        size_t at = static_cast<size_t>(random.between(0, static_cast<int64_t>(text.size()) - 1));
        while (at > 0 && !std::strchr(",[]{}:", text[at])) --at;
        return at;
    };
    const size_t begin = boundary(), size = std::min(text.size() - begin, static_cast<size_t>(random.between(1, 60)));
    if (random.next() % 2) text.erase(begin, size);
    else text.insert(boundary(), text.substr(begin, size));
}

}  // namespace

// An argument is the number of damaged graphs.
int main(int count_of_arguments, char** arguments) {
    const int wanted = count_of_arguments > 1 ? std::atoi(arguments[1]) : kGraphs;
    check::Random random(11);
    const graphs::File good[] = {graphs::network(false), graphs::network(true), graphs::tiles(false),
                                 graphs::tiles(true),    graphs::places(false), graphs::places(true)};
    const int kinds = static_cast<int>(std::size(good));
    int loaded = 0, refused = 0;
    const auto count = [&](bool passed) { ++(passed ? loaded : refused); };
    for (const graphs::File& file : good) CHECK(survives(file.bytes()), "unharmed");
    for (int i = 0; i < wanted; ++i) {
        graphs::File file = good[i % kinds];
        const int edits = 1 + static_cast<int>(random.next() % 3 == 0) + static_cast<int>(random.next() % 9 == 0);
        for (int e = 0; e < edits; ++e) {
            if (random.next() % 8 == 0) edit_structure(file.graph, random);
            else edit_number(file.graph, random);
        }
        count(survives(file.bytes()));
    }
    const std::string bytes = good[1].bytes();
    const int64_t header = static_cast<int64_t>(bytes.find("m.10")) + 4000;
    for (int i = 0; i < kFiles; ++i) {
        std::string changed = bytes;
        for (int64_t e = random.between(1, 3); e > 0; --e)
            changed[static_cast<size_t>(random.between(0, header))] ^= static_cast<char>(1 << random.between(0, 7));
        if (i % 8 == 0) changed.resize(static_cast<size_t>(random.between(0, static_cast<int64_t>(bytes.size()))));
        count(survives(changed));
    }
    std::printf("%d plans loaded, %d were refused\n", loaded, refused);
    CHECK(loaded > wanted / 20 && refused > wanted / 2, "the mutations reach both");
    return check::result();
}
