/* Who runs which packet: key cells, run queues, batches whose slots change hands, thieves
 * (native/port/keys.h, run_queue.h, batch.h, dispatcher.cc, dispatcher_steal.cc), as a model for
 * Spin (https://spinroot.com).
 *
 * Each thread takes entries from its run queue into a batch, claims its packets one after another
 * without a lock, runs them, and ends the batch, perhaps before it has begun all of them. A thread
 * with nothing steals: entries first, then what another has taken and not begun. What happens under
 * the lock of a stripe is one step; slots are not under it, so each access of one is a step.
 *
 * Proved for all interleavings: no two threads run packets of one key at a time, each key's packets
 * run once and in their order, whoever runs one holds its key, and when nothing moves any more all
 * have run: no packet waits without an entry. Run by scripts/check-models.sh.
 */
#ifndef THREADS
#define THREADS 2
#endif
#ifndef KEYS
#define KEYS 2
#endif
#ifndef EACH
#define EACH 2 /* packets of a key */
#endif
#define BATCH 2
#define NOBODY THREADS

mtype = { free, ready, claimed, done, stolen };

/* ---- cells: of the stripe's lock, which is a step */
typedef Cell {
  byte held;
  byte entries;
  byte holder;
  bool queue[EACH]; /* which packets wait; the first of them is the next */
};
Cell cell[KEYS];
byte arrived[KEYS]; /* packets that have come so far */

/* ---- consumers: of their lock */
typedef Slot {
  mtype state;
  byte key;
  byte number; /* of its key */
};
typedef Consumer {
  bool lock;
  byte runs[KEYS]; /* entries */
  Slot slot[BATCH];
  byte size;
};
Consumer consumer[THREADS];

/* ---- what is proved */
byte running[KEYS];
byte ran[KEYS];
byte all;

#define LOCK(i) atomic { !consumer[i].lock -> consumer[i].lock = true }
#define UNLOCK(i) consumer[i].lock = false

/* take_entry, queued at `to`, which is locked or is the caller's */
inline entry_where_free(k, to) {
  n = 0;
  do
  :: n < EACH && !cell[k].queue[n] -> n++
  :: else -> break
  od;
  if
  :: cell[k].holder == NOBODY && n < EACH && cell[k].entries == 0 ->
    cell[k].entries++;
    consumer[to].runs[k]++
  :: else -> skip
  fi;
  n = 0
}

/* Keys::take: comes for one entry. One packet where others have entries, too; else all there is room
 * for. */
inline hold_from(me, k) {
  atomic {
    cell[k].entries--;
    n = 0;
    if
    :: cell[k].holder == NOBODY || cell[k].holder == me ->
      do
      :: n == EACH || consumer[me].size == BATCH -> break
      :: n < EACH && consumer[me].size < BATCH && !cell[k].queue[n] -> n++
      :: n < EACH && consumer[me].size < BATCH && cell[k].queue[n] ->
        cell[k].queue[n] = false;
        cell[k].held++;
        cell[k].holder = me;
        consumer[me].slot[consumer[me].size].key = k;
        consumer[me].slot[consumer[me].size].number = n;
        consumer[me].slot[consumer[me].size].state = ready;
        consumer[me].size++;
        if
        :: cell[k].entries > 0 -> break
        :: else -> n++
        fi
      od
    :: else -> skip
    fi;
    entry_where_free(k, me)
  }
}

/* push from outside of the port's threads, then into any run queue: as if that thread had reaped it */
proctype arrivals(byte k) {
  byte n, to;
  do
  :: arrived[k] == EACH -> break
  :: else ->
    select(to : 0 .. THREADS - 1);
    LOCK(to);
    atomic {
      cell[k].queue[arrived[k]] = true;
      arrived[k]++;
      if
      :: cell[k].holder != NOBODY && cell[k].holder != to -> skip /* its release finds it */
      :: else ->
        cell[k].entries++;
        consumer[to].runs[k]++
      fi
    }
    UNLOCK(to)
  od
}

/* put_back: one packet that its owner has not begun */
inline put_back(me, i) {
  atomic {
    k = consumer[me].slot[i].key;
    cell[k].queue[consumer[me].slot[i].number] = true;
    cell[k].held--;
    if
    :: cell[k].held == 0 -> cell[k].holder = NOBODY
    :: else -> skip
    fi;
    cell[k].entries++;
    consumer[me].runs[k]++
  }
}

/* give_back_unclaimed: from the last to the first */
inline give_back(me) {
  i = consumer[me].size;
  do
  :: i == 0 -> break
  :: else ->
    i--;
    atomic { /* revoke: a compare-and-swap */
      revoked = consumer[me].slot[i].state == ready;
      if
      :: revoked -> consumer[me].slot[i].state = stolen
      :: else -> skip
      fi
    }
    if
    :: revoked -> put_back(me, i)
    :: else -> skip
    fi
  od;
  i = 0;
  revoked = false
}

/* release_slots; the thread has its lock */
inline release_slots(me) {
  i = 0;
  do
  :: i == consumer[me].size -> break
  :: else ->
    atomic {
      if
      :: consumer[me].slot[i].state == done ->
        k = consumer[me].slot[i].key;
        cell[k].held--;
        if
        :: cell[k].held == 0 ->
          cell[k].holder = NOBODY;
          entry_where_free(k, me)
        :: else -> skip
        fi
      :: else -> assert(consumer[me].slot[i].state == stolen)
      fi;
      consumer[me].slot[i].state = free
    }
    i++
  od;
  consumer[me].size = 0;
  i = 0;
  k = 0
}

/* steal_surplus with revoke_key: the last packet that is not begun, and all of its key or none, from
 * the last to the first. When the owner wins one in between, those revoked already are the newest;
 * they wait with the key, which stays the owner's. Both threads are locked. */
inline steal_surplus(me, from) {
  last = BATCH;
  i = consumer[from].size;
  do
  :: i == 0 || last < BATCH -> break
  :: else ->
    i--;
    if
    :: consumer[from].slot[i].state == ready -> last = i
    :: else -> skip
    fi
  od;
  i = 0;
  if
  :: last == BATCH -> skip
  :: else ->
    k = consumer[from].slot[last].key;
    /* untouched: what is looked at here may be claimed a moment later */
    i = last + 1;
    group = 0;
    touched = false;
    do
    :: i == 0 || group == cell[k].held || touched -> break
    :: else ->
      i--;
      if
      :: consumer[from].slot[i].key != k || consumer[from].slot[i].state == stolen -> skip
      :: consumer[from].slot[i].key == k && consumer[from].slot[i].state == ready -> group++
      :: else -> touched = true
      fi
    od;
    if
    :: touched || group != cell[k].held -> skip
    :: else ->
      i = last + 1;
      group = 0;
      do
      :: i == 0 -> break
      :: else ->
        i--;
        if
        :: consumer[from].slot[i].key != k || consumer[from].slot[i].state == stolen -> skip
        :: else ->
          atomic { /* revoke */
            revoked = consumer[from].slot[i].state == ready;
            if
            :: revoked ->
              consumer[from].slot[i].state = stolen;
              cell[k].queue[consumer[from].slot[i].number] = true;
              group++
            :: else -> skip
            fi
          }
          if
          :: revoked -> skip
          :: else -> break
          fi
        fi
      od;
      atomic {
        cell[k].held = cell[k].held - group;
        if
        :: cell[k].held > 0 -> touched = true
        :: else ->
          cell[k].holder = NOBODY;
          cell[k].entries++
        fi
      }
      if
      :: touched -> skip
      :: else -> hold_from(me, k)
      fi
    fi
  fi;
  i = 0;
  group = 0;
  touched = false;
  revoked = false;
  last = 0;
  k = 0
}

#define HAS_ENTRIES(t) (consumer[t].runs[0] > 0 || consumer[t].runs[KEYS - 1] > 0)
#define HAS_READY(t) (consumer[t].slot[0].state == ready || consumer[t].slot[1].state == ready)

proctype thread(byte me) {
  byte k, n, i, last, group, other = 1 - me;
  bool revoked, touched;
  do
  :: all == KEYS * EACH -> break
  :: HAS_ENTRIES(me) || HAS_ENTRIES(other) || HAS_READY(other) ->
    LOCK(me);
    /* fill: entries of its own */
    do
    :: consumer[me].size == BATCH -> break
    :: consumer[me].size < BATCH && consumer[me].runs[0] > 0 ->
      consumer[me].runs[0]--;
      hold_from(me, 0)
    :: consumer[me].size < BATCH && consumer[me].runs[KEYS - 1] > 0 ->
      consumer[me].runs[KEYS - 1]--;
      hold_from(me, KEYS - 1)
    :: consumer[me].size < BATCH && !HAS_ENTRIES(me) -> break
    od;
    /* steal: the victim's lock is tried, not waited for */
    atomic {
      if
      :: consumer[me].size == 0 && !consumer[other].lock ->
        consumer[other].lock = true;
        touched = true
      :: else -> touched = false
      fi
    }
    if
    :: touched ->
      touched = false;
      if
      :: consumer[other].runs[0] > 0 ->
        consumer[other].runs[0]--;
        hold_from(me, 0)
      :: consumer[other].runs[KEYS - 1] > 0 ->
        consumer[other].runs[KEYS - 1]--;
        hold_from(me, KEYS - 1)
      :: else -> steal_surplus(me, other)
      fi;
      UNLOCK(other)
    :: else -> skip
    fi;
    UNLOCK(me);
    /* the program runs them, or leaves the rest */
    do
    :: i == consumer[me].size -> break
    :: i < consumer[me].size -> break
    :: i < consumer[me].size ->
      atomic { /* claim: a compare-and-swap, without a lock */
        revoked = consumer[me].slot[i].state == ready;
        if
        :: revoked -> consumer[me].slot[i].state = claimed
        :: else -> skip
        fi
      }
      if
      :: revoked ->
        k = consumer[me].slot[i].key;
        atomic {
          assert(running[k] == 0);
          assert(cell[k].holder == me);
          assert(ran[k] == consumer[me].slot[i].number);
          running[k]++
        }
        atomic {
          running[k]--;
          ran[k]++;
          all++;
          consumer[me].slot[i].state = done
        }
      :: else -> skip
      fi;
      i++
    od;
    i = 0;
    k = 0;
    revoked = false;
    /* release */
    LOCK(me);
    give_back(me);
    release_slots(me);
    UNLOCK(me)
  od
}

init {
  byte i;
  atomic {
    do
    :: i == KEYS -> break
    :: else -> cell[i].holder = NOBODY; i++
    od;
    i = 0;
    do
    :: i == THREADS -> break
    :: else ->
      consumer[i].slot[0].state = free;
      consumer[i].slot[1].state = free;
      run thread(i);
      i++
    od;
    i = 0;
    do
    :: i == KEYS -> break
    :: else -> run arrivals(i); i++
    od
  }
}
