// Thousands of damaged plans: none may crash the loader, and none that it lets pass may crash a run. The
// sanitizers watch; the mutations are the same on every machine. Checksums are made to hold, so that it is
// the validator that is tried; a part of the mutations changes the bytes of the file instead.
//
// Plan files named on the command line, as `fleetfoot compile` writes them, are mutated as well: --each N times each.
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "check.hpp"
#include "checksum.hpp"
#include "context.hpp"
#include "cpu.hpp"
#include "error.hpp"
#include "graphs.hpp"
#include "operators/operator.hpp"

namespace {

#if defined(__SANITIZE_THREAD__)
constexpr int kGraphs = 120, kFiles = 50;  // there is one thread here, and it is slow under that sanitizer
#else
constexpr int kGraphs = 3000, kFiles = 600;
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

// One text becomes another of the graph: an operator, a kind, an attribute, a role, a type or a name.
void edit_word(std::string& text, check::Random& random) {
    std::vector<std::pair<size_t, size_t>> words;
    for (size_t i = text.find('"'); i != std::string::npos; i = text.find('"', i)) {
        const size_t end = text.find('"', i + 1);
        if (end == std::string::npos) break;
        words.emplace_back(i, end + 1 - i);
        i = end + 1;
    }
    if (words.empty()) return;
    const auto any = [&] { return words[static_cast<size_t>(random.between(0, static_cast<int64_t>(words.size()) - 1))]; };
    const auto [from, length] = any();
    const auto [at, size] = any();
    const std::string word = text.substr(from, length);
    text.replace(at, size, word);
}

void edit(std::string& graph, check::Random& random) {
    const int edits = 1 + static_cast<int>(random.next() % 3 == 0) + static_cast<int>(random.next() % 9 == 0);
    for (int e = 0; e < edits; ++e) {
        const uint64_t kind = random.next() % 8;
        if (kind == 0) edit_structure(graph, random);
        else if (kind < 3) edit_word(graph, random);
        else edit_number(graph, random);
    }
}

// A file of `fleetfoot compile`, with its graph apart.
struct Compiled {
    std::string before, graph, after, data;  // header around the graph's text, and what follows the header

    explicit Compiled(const char* path) {
        std::ifstream file(path, std::ios::binary);
        const std::string all{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
        uint64_t length = 0;
        CHECK(all.size() > 8, "%s", path);
        std::memcpy(&length, all.data(), 8);
        const std::string header = all.substr(8, length), mark = "\"graph\":\"";
        data = all.substr(8 + length);
        const size_t begin = header.find(mark) + mark.size();
        size_t end = begin;
        for (; header[end] != '"'; ++end) {
            if (header[end] == '\\') ++end;
            graph += header[end];
        }
        before = header.substr(0, begin);
        after = header.substr(end);
        after.erase(after.find_last_not_of(' ') + 1);
    }

    std::string bytes(const std::string& changed) const {
        char digits[17];
        std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(ff::checksum(
                      changed.data(), changed.size(), ff::checksum(data.data(), data.size(), 0))));
        std::string header = before;
        const std::string mark = "\"checksum\":\"";
        header.replace(header.rfind(mark) + mark.size(), 16, digits);
        header += graphs::quoted(changed).substr(1);
        header.pop_back();
        header += after;
        while ((header.size() + 8) % 64) header += ' ';
        const uint64_t length = header.size();
        return std::string(reinterpret_cast<const char*>(&length), 8) + header + data;
    }
};

}  // namespace

// Arguments: `--graphs N`, the number of damaged graphs of our own; `--each N`, of each compiled plan; files of compiled
// plans.
int main(int count_of_words, char** words) {
    int wanted = kGraphs, each = 100;
    std::vector<const char*> plans;
    for (int i = 1; i < count_of_words; ++i) {
        const std::string word = words[i];
        if (i + 1 < count_of_words && word == "--graphs") wanted = std::atoi(words[++i]);
        else if (i + 1 < count_of_words && word == "--each") each = std::atoi(words[++i]);
        else plans.push_back(words[i]);
    }
    check::Random random(11);
    const graphs::File good[] = {graphs::network(false), graphs::network(true), graphs::tiles(false),
                                 graphs::tiles(true),    graphs::places(false), graphs::places(true)};
    const int kinds = static_cast<int>(std::size(good));
    int loaded = 0, refused = 0;
    const auto count = [&](bool passed) { ++(passed ? loaded : refused); };
    for (const graphs::File& file : good) CHECK(survives(file.bytes()), "unharmed");
    for (int i = 0; i < wanted; ++i) {
        graphs::File file = good[i % kinds];
        edit(file.graph, random);
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
    for (const char* path : plans) {
        const Compiled plan(path);
        CHECK(survives(plan.bytes(plan.graph)), "%s unharmed", path);
        for (int j = 0; j < each; ++j) {
            std::string graph = plan.graph;
            edit(graph, random);
            count(survives(plan.bytes(graph)));
        }
    }
    std::printf("%d plans loaded, %d were refused\n", loaded, refused);
    CHECK(loaded > wanted / 20 && refused > wanted / 2, "the mutations reach both");
    return check::result();
}
