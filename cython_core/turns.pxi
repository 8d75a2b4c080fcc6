# How long the turns of a thread are, when it shares a processor with others.

cdef extern from *:
    """
    #include <sys/syscall.h>
    #include <unistd.h>

    /* The kernel's struct of that name (linux/sched/types.h), which clashes with newer ones of the C library. */
    typedef struct {
      uint32_t size, policy;
      uint64_t flags;
      int32_t nice;
      uint32_t priority;
      uint64_t runtime_ns, deadline_ns, period_ns;
    } spin_turns;

    static void spin_take_short_turns(uint64_t turn_ns) {
    #if defined(SYS_sched_getattr) && defined(SYS_sched_setattr)
      spin_turns turns = {.size = sizeof(spin_turns)};
      if (syscall(SYS_sched_getattr, 0, &turns, sizeof(turns), 0) || turns.policy != 0) return;
      turns.runtime_ns = turn_ns;
      syscall(SYS_sched_setattr, 0, &turns, 0);
    #else
      (void)turn_ns;
    #endif
    }
    """
    void spin_take_short_turns(uint64_t turn_ns) nogil


def take_short_turns(uint64_t turn_ns):
    """Have this thread run soon after it wakes, for a short turn: for one that wakes often, does little, and is waited for.

    Linux 6.12 and later take a turn's length from threads of the usual policy (100 us to 100 ms) and let who asks for a shorter one
    interrupt the others. Elsewhere nothing happens.
    """
    spin_take_short_turns(turn_ns)
