// Stores that break one rule each, as an author of one may.
import { MemoryStore } from '../../src/share/memory-store.ts'
import { samePosition } from '../../src/share/position.ts'
import type { Doorbell, ShareStore, StoredEntry } from '../../src/share-store.ts'
import { TableStore, Tables, turn } from './table-store.ts'

export interface BrokenStore {
  /** What is wrong with it. */
  readonly name: string
  /** The test of the suite that is about that; others may fail as well. */
  readonly fails: string
  create(): ShareStore
}

const NOTHING = { fence: 0, seq: 0 }
const LONG_MS = 60_000

type Change = (whole: ShareStore) => Partial<ShareStore>

function broken(name: string, fails: string, change: Change, make: () => ShareStore = memory): BrokenStore {
  return {
    name,
    fails,
    create() {
      const whole = make()
      const changed = change(whole)
      return new Proxy(whole, {
        get(_whole, member) {
          const value: unknown = Reflect.get(changed, member) ?? Reflect.get(whole, member)
          return typeof value === 'function' ? value.bind(whole) : value
        },
      })
    },
  }
}

function memory(): ShareStore {
  return new MemoryStore({})
}

export const brokenStores: readonly BrokenStore[] = [
  broken(
    'one that makes up a state for what it does not know',
    'a key that nobody has taken has no state, no entries and no followers',
    (whole) => ({
      look: async (keys) =>
        (await whole.look(keys)).map((state) => state ?? { owner: '', first: NOTHING, last: NOTHING }),
    }),
  ),
  broken(
    'one that forgets who has taken a key',
    'a key belongs to the node that takes it, as the other node sees too',
    (whole) => ({ take: (key, claim) => whole.take(key, { ...claim, node: '' }) }),
  ),
  broken(
    'one that looks first, and takes then',
    'of two nodes that take a key at the same time one gets it, and the other learns which',
    (whole) => ({
      async take(key, claim) {
        const [before] = await whole.look([key])
        if ((before?.last.fence ?? 0) !== claim.replaces) return { isRefused: true, state: before }
        await turn()
        const [state] = await whole.look([key])
        return await whole.take(key, { ...claim, replaces: state?.last.fence ?? 0 })
      },
    }),
  ),
  broken(
    'one that gives a key to whoever asks late',
    'a claim that would replace another fence than the present one changes nothing',
    (whole) => ({
      async take(key, claim) {
        const [state] = await whole.look([key])
        return await whole.take(key, { ...claim, replaces: Math.max(claim.replaces, state?.last.fence ?? 0) })
      },
    }),
  ),
  broken(
    'one that begins a log anew for each owner',
    'each owner has a higher fence than the one before, and its head comes after all that was there',
    (whole) => ({
      async take(key, claim) {
        const [state] = await whole.look([key])
        if (!state || state.last.fence !== claim.replaces) return await whole.take(key, claim)
        const end = { position: { fence: state.last.fence, seq: state.last.seq + 1 }, bytes: Buffer.alloc(0) }
        await whole.append(key, { after: state.last, entries: [end], keepFrom: NOTHING, keepMs: 0 })
        return await whole.take(key, { ...claim, replaces: 0 })
      },
    }),
  ),
  brokenFences(),
  broken('one that takes bytes for text', 'entries come back byte for byte, whatever is in them', (whole) => ({
    append: (key, addition) =>
      whole.append(key, {
        ...addition,
        entries: addition.entries.map(({ position, bytes }) => ({ position, bytes: Buffer.from(bytes.toString()) })),
      }),
  })),
  broken(
    'one whose logs have holes',
    'an addition that does not follow the latest entry changes nothing, and says what the latest is',
    (whole) => ({
      async append(key, addition) {
        const [state] = await whole.look([key])
        const isHole = addition.after.fence === state?.last.fence && addition.after.seq > state.last.seq
        return await whole.append(key, isHole ? { ...addition, after: state.last } : addition)
      },
    }),
  ),
  broken(
    'one that takes what an owner that has been replaced adds',
    'what an owner that has been replaced adds is refused, however late it comes',
    (whole) => ({
      async append(key, addition) {
        const [state] = await whole.look([key])
        const isLate = state && addition.after.fence < state.last.fence
        return await whole.append(key, isLate ? { ...addition, after: state.last } : addition)
      },
    }),
  ),
  broken('one that makes a log of an addition', 'an addition to a key that has no log is refused', (whole) => ({
    async append(key, addition) {
      const [state] = await whole.look([key])
      if (state) return await whole.append(key, addition)
      return await whole.take(key, { node: '', replaces: 0, head: Buffer.alloc(0), keepMs: LONG_MS })
    },
  })),
  broken(
    'one that looks first, and adds then',
    'of additions that are sent at the same time behind the same entry one is added',
    (whole) => ({
      async append(key, addition) {
        const [before] = await whole.look([key])
        if (!before || !samePosition(before.last, addition.after)) return { isRefused: true, state: before }
        await turn()
        const [state] = await whole.look([key])
        return await whole.append(key, { ...addition, after: state?.last ?? addition.after })
      },
    }),
  ),
  broken(
    'one that drops nothing',
    'what is before keepFrom is dropped, and the state shows where the log begins',
    (whole) => ({ append: (key, addition) => whole.append(key, { ...addition, keepFrom: NOTHING }) }),
  ),
  broken(
    'one that drops only what the present owner has added',
    'a new owner may drop what owners before it have added',
    (whole) => ({
      append(key, addition) {
        const isOwn = addition.keepFrom.fence === addition.after.fence
        return whole.append(key, { ...addition, keepFrom: isOwn ? addition.keepFrom : NOTHING })
      },
    }),
  ),
  broken(
    'one that reads all at once',
    'a log is read in pages of so many bytes, but of one entry at least, each from the position asked for',
    (whole) => ({ read: (key, after) => whole.read(key, after, Number.POSITIVE_INFINITY) }),
  ),
  broken(
    'one that reads on only from an entry that it has',
    'a position of an earlier fence, or of one that there never was, is read on from in order',
    (whole) => ({
      async read(key, after, maxBytes) {
        const { entries, state } = await whole.read(key, undefined, Number.POSITIVE_INFINITY)
        const isKnown = !after || entries.some(({ position }) => samePosition(position, after))
        return isKnown ? await whole.read(key, after, maxBytes) : { entries: [], state }
      },
    }),
  ),
  broken('one that answers in an order of its own', 'several keys are looked at together, in their order', (whole) => ({
    look: async (keys) => [...(await whole.look([...keys].reverse()))],
  })),
  broken(
    'one whose doorbells overtake each other',
    'a node that follows a key hears of all that is added, in order, whoever adds it',
    (whole) => ({
      follow(key, node, doorbell) {
        let rings = 0
        const tell = (entries: readonly StoredEntry[]) => doorbell.onEntries(entries)
        const late = (entries: readonly StoredEntry[]) => setTimeout(tell, 20, entries)
        return whole.follow(key, node, {
          onEntries: (entries) => void (rings++ % 2 === 1 ? tell(entries) : late(entries)),
          onChanged: () => doorbell.onChanged(),
        })
      },
    }),
  ),
  broken(
    'one that does not ring where there is too much to be told',
    'of an addition too large to be told a follower hears that there is one',
    (whole) => ({
      follow: (key, node, doorbell) =>
        whole.follow(key, node, {
          onEntries: (entries) => entries.every(({ bytes }) => bytes.length < 1e6) && doorbell.onEntries(entries),
          onChanged: () => doorbell.onChanged(),
        }),
    }),
  ),
  broken('one that rings before it looks', 'nothing is told of what was refused', (whole) => {
    const doorbells = new Map<string, Doorbell>()
    return {
      follow(key, node, doorbell) {
        doorbells.set(key, doorbell)
        return whole.follow(key, node, doorbell)
      },
      async append(key, addition) {
        const added = await whole.append(key, addition)
        if (added.isRefused) doorbells.get(key)?.onEntries(addition.entries)
        return added
      },
    }
  }),
  broken(
    'one that goes on to ring for those who have left',
    'a follower that has left hears nothing more, and those that stay hear that it has left',
    (whole) => ({
      async follow(key, node, doorbell) {
        const unfollow = await whole.follow(key, node, doorbell)
        return () => {
          unfollow()
          void whole.follow(key, node, doorbell)
        }
      },
    }),
  ),
  broken(
    'one that has one doorbell for a node and key',
    'two streams of one node may follow the same key, and each hears all',
    (whole) => {
      const doorbells = new Map<string, () => void>()
      return {
        async follow(key, node, doorbell) {
          const unfollow = await whole.follow(key, node, doorbell)
          doorbells.get(key + node)?.()
          doorbells.set(key + node, unfollow)
          return unfollow
        },
      }
    },
  ),
  broken(
    'one that counts the dead among the followers',
    'the followers of a key are the nodes that follow it and are alive',
    (whole) => {
      const followers = new Map<string, string[]>()
      return {
        follow(key, node, doorbell) {
          followers.set(key, [...(followers.get(key) ?? []), node])
          return whole.follow(key, node, doorbell)
        },
        followers: async (key) => [...new Set(followers.get(key))],
      }
    },
  ),
  broken(
    'one whose nodes live for ever',
    'a node is alive for as long as its beat says, and not when it has said goodbye',
    (whole) => ({ beat: (node, forMs) => whole.beat(node, forMs > 0 ? LONG_MS : 0) }),
  ),
  broken(
    'one that does not know who was alive before',
    'a node is alive for as long as its beat says, and not when it has said goodbye',
    (whole) => ({ beat: async (node, forMs) => (await whole.beat(node, forMs)) && false }),
  ),
  broken('one that keeps everything', 'a log that nobody adds to is dropped after keepMs, and not before', (whole) => ({
    append: (key, addition) => whole.append(key, { ...addition, keepMs: addition.keepMs && LONG_MS }),
  })),
  broken(
    'one that keeps for a while what is to go at once',
    'to be kept for no time drops the log at once, and its followers hear the last entry',
    (whole) => ({ append: (key, addition) => whole.append(key, { ...addition, keepMs: addition.keepMs || LONG_MS }) }),
  ),
  broken(
    'one that counts places for each node',
    'a client has so many places and no more, over all nodes',
    (whole) => ({ takePlace: (client, node, place, max) => whole.takePlace(client + node, node, place, max) }),
  ),
  broken(
    'one that counts places first, and takes one then',
    'of places taken at the same time no more are given than there are',
    (whole) => {
      const taken = new Map<string, number>()
      return {
        async takePlace(client, node, place, max) {
          const count = taken.get(client) ?? 0
          await turn()
          if (count >= max) return false
          taken.set(client, (taken.get(client) ?? 0) + 1)
          return await whole.takePlace(client, node, place, Number.POSITIVE_INFINITY)
        },
      }
    },
  ),
  broken('one that keeps the places of the dead', 'the places of a node that has died are free', (whole) => ({
    async takePlace(client, _node, place, max) {
      await whole.beat('immortal', LONG_MS)
      return await whole.takePlace(client, 'immortal', place, max)
    },
  })),
]

function brokenFences(): BrokenStore {
  const tables = new Tables(() => 0)
  return broken(
    'one that counts fences in the log',
    'the fence is higher than before also when the log has gone meanwhile',
    (whole) => ({
      take(key, claim) {
        if (claim.replaces === 0) tables.fences.delete(key)
        return whole.take(key, claim)
      },
    }),
    () => new TableStore(tables),
  )
}
