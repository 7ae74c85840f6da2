// The bytes of a plan: a mapped file, or a copy of what a caller holds.
#pragma once

#include <cstddef>

namespace ff {

class File {
public:
    File() = default;
    static File map(const char* path);                // throws Error(FF_BAD_FILE)
    static File copy(const void* data, size_t size);  // 64-byte aligned; throws std::bad_alloc
    File(File&& other) noexcept;
    File& operator=(File&& other) noexcept;
    ~File();

    const void* data() const { return data_; }
    size_t size() const { return size_; }

    // Says that these bytes are seldom read: the pages of a mapped file that they fill need not stay in memory, and
    // come back when they are read. A copy keeps them.
    void set_aside(const void* data, size_t size) const;

private:
    void* data_ = nullptr;
    size_t size_ = 0;
    bool mapped_ = false;
};

}  // namespace ff
