// The bytes of a plan: read from a file, a mapped file, or a copy of what a caller holds.
#pragma once

#include <cstddef>

#include "work.hpp"

namespace ff {

class File {
public:
    File() = default;
    // A regular file; others are refused, as reading them may not end. Throw Error(FF_BAD_FILE).
    static File read(const char* path);  // later, by fill()
    static File map(const char* path);
    static File copy(const void* data, size_t size);  // 64-byte aligned; throws std::bad_alloc
    File(File&& other) noexcept;
    File& operator=(File&& other) noexcept;
    ~File();

    // Makes the first `end` bytes, or all if there are fewer, those of the file. Throws Error(FF_BAD_FILE), as the file
    // may have become shorter, or Error(FF_STOPPED).
    void fill(size_t end, Work& work);

    const void* data() const { return data_; }
    size_t size() const { return size_; }

    // Says that these bytes are seldom read: the pages of a mapped file that they fill need not stay in memory, and
    // come back when they are read. A copy keeps them.
    void set_aside(const void* data, size_t size) const;

private:
    static int open(const char* path, size_t& size);

    void* data_ = nullptr;
    size_t size_ = 0, filled_ = 0;
    bool mapped_ = false;
    int file_ = -1;  // that is being read
};

}  // namespace ff
