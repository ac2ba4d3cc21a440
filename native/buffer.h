// Memory for scratch and values: aligned to a cache line, not initialised, grown at the door of a step and never
// inside.
#pragma once
#include <cstdint>
#include <memory>
#include <new>

namespace headrace {

template <typename T>
class Buffer {
  public:
    T* data() { return memory_.get(); }

    // Room for at least `size` elements; what was there is lost when it grows.
    void reserve(int64_t size) {
        if (size <= size_) return;
        memory_.reset();
        size_ = 0;
        memory_.reset(static_cast<T*>(::operator new(static_cast<size_t>(size) * sizeof(T), kAlignment)));
        size_ = size;
    }

  private:
    static constexpr std::align_val_t kAlignment{64};
    struct Free {
        void operator()(T* p) const { ::operator delete(p, kAlignment); }
    };
    std::unique_ptr<T, Free> memory_;
    int64_t size_ = 0;
};

}  // namespace headrace
