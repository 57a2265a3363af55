// Threads that help the calling one, and sleep where there is nothing to do.
//
// Not OpenMP's: those spin while they wait, and a parallel region waits at its end for every one of
// them, also for one that a busy machine has not let begin. Here the caller does whatever nobody
// has taken, and waits for those alone that are in the middle of something.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

namespace itnas {

class Helpers {
  public:
    // threads that work together from now on, the caller included
    void use(int count) { count_ = count; }

    // runs body once on the calling thread and on each helper that finds the time, at most `most`
    // threads in all; body takes what is left of the work until nothing is
    template <typename Body>
    void run(long most, Body& body) {
        const int helpers = int(std::min<long>(count_, most)) - 1;
        if (helpers < 1 || inside()) {
            body();
            return;
        }
        Job job{[](void* given) { (*static_cast<Body*>(given))(); }, &body, helpers, 0};
        {
            std::lock_guard<std::mutex> lock(mutex_);
            for (; started_ < helpers; ++started_) std::thread([this] { help(); }).detach();
            job_ = &job;
        }
        for (int n = 0; n < helpers; ++n) wake_.notify_one();
        inside() = true;
        body();
        inside() = false;
        std::unique_lock<std::mutex> lock(mutex_);
        job_ = nullptr;
        done_.wait(lock, [&] { return job.active == 0; });
    }

  private:
    struct Job {
        void (*call)(void*);
        void* data;
        int wanted;  // helpers that may still join
        int active;
    };

    static bool& inside() {  // what runs in blocks already is not cut again
        static thread_local bool value = false;
        return value;
    }

    void help() {
        inside() = true;
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return job_ && job_->wanted > 0; });
            Job* job = job_;
            --job->wanted;
            ++job->active;
            lock.unlock();
            job->call(job->data);
            lock.lock();
            if (--job->active == 0) done_.notify_one();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_, done_;
    Job* job_ = nullptr;
    int count_ = 1, started_ = 0;
};

// never destroyed: helpers sleep in it until the process ends
inline Helpers& helpers() {
    static Helpers* const all = new Helpers;
    return *all;
}

}  // namespace itnas
