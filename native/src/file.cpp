#include "file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "error.hpp"
#include "memory.hpp"

namespace ff {

namespace {

constexpr size_t kPiece = size_t{8} << 20;  // between two looks at whether to stop

[[noreturn]] void refuse(const std::string& what, const std::string& reason) {
    throw Error(FF_BAD_FILE, "cannot read " + what + ": " + reason);
}

}  // namespace

// Asked before it is opened, which a pipe's writer would notice, and after, since it may have been exchanged.
int File::open(const char* path, size_t& size) {
    const std::string what = "'" + std::string(path) + "'";
    const auto demand_regular = [&](const struct stat& status) {
        if (!S_ISREG(status.st_mode)) refuse(what, "it is not a regular file");
    };
    struct stat status {};
    if (::stat(path, &status) != 0) refuse(what, std::strerror(errno));
    demand_regular(status);
    const int file = ::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) refuse(what, std::strerror(errno));
    try {
        if (::fstat(file, &status) != 0) refuse(what, std::strerror(errno));
        demand_regular(status);
        if (status.st_size == 0) refuse(what, "it is empty");
    } catch (...) {
        ::close(file);
        throw;
    }
    size = static_cast<size_t>(status.st_size);
    return file;
}

File File::read(const char* path) {
    File result;
    result.file_ = open(path, result.size_);
    result.data_ = allocate(result.size_);
    return result;
}

File File::map(const char* path) {
    File result;
    const int file = open(path, result.size_);
    void* data = ::mmap(nullptr, result.size_, PROT_READ, MAP_PRIVATE, file, 0);
    const int error = errno;
    ::close(file);  // the mapping stays
    if (data == MAP_FAILED) refuse("'" + std::string(path) + "'", std::strerror(error));
    result.data_ = data;
    result.filled_ = result.size_;
    result.mapped_ = true;
    return result;
}

File File::copy(const void* data, size_t size) {
    File result;
    result.data_ = allocate(size);
    result.size_ = result.filled_ = size;
    if (size) std::memcpy(result.data_, data, size);
    return result;
}

void File::fill(size_t end, Work& work) {
    end = std::min(end, size_);
    while (filled_ < end) {
        work.look();
        const size_t piece = std::min(end - filled_, kPiece);
        const ssize_t count = ::pread(file_, static_cast<char*>(data_) + filled_, piece, static_cast<off_t>(filled_));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) refuse("the plan", std::strerror(errno));
        if (count == 0) refuse("the plan", "the file became shorter meanwhile");
        filled_ += static_cast<size_t>(count);
    }
    if (filled_ == size_ && file_ >= 0) {
        ::close(file_);
        file_ = -1;
    }
}

void File::set_aside(const void* data, size_t size) const {
    const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
    const auto start = reinterpret_cast<uintptr_t>(data);
    const uintptr_t begin = (start + page - 1) / page * page, end = (start + size) / page * page;
    if (mapped_ && begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

File::File(File&& other) noexcept { *this = std::move(other); }

File& File::operator=(File&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(filled_, other.filled_);
    std::swap(file_, other.file_);
    std::swap(mapped_, other.mapped_);
    return *this;
}

File::~File() {
    if (file_ >= 0) ::close(file_);
    if (mapped_) ::munmap(data_, size_);
    else std::free(data_);
}

}  // namespace ff
