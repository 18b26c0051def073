// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// The Lua scripts: ``LockTable`` said in Redis' words.
///
/// Resource `x` is held exactly when the string key `x` exists. Its value is the proof of the exclusive holder (plain
/// Redlock) and its time to live the lease; or it is the marker `hf:shared`, which is nobody's proof and keeps plain
/// Redlock lockers out for as long as any of the holders beside each other has its lease. Beside it, in the same hash
/// slot:
/// - `hf:{x}:h`, one string, the record: the last token, the description of an exclusive holder, what the resource
///   rests for, the last requests that ended, who of several holders may or wants to become exclusive. It expires two
///   days after its last use; tokens then go on from the server's clock.
/// - `hf:{x}:s`, a hash: the holders beside each other (shared, update, permits), by id.
/// - `hf:{x}:e`, a sorted set: when each of them ends. Both expire two days after their last use. Their holders hold
///   only while `x` is the marker: whoever deletes or replaces it has taken the lock from all of them.
/// - `hf:{x}:q`, a sorted set: who waits, by rank.
/// - `hf:{x}:w`, a hash: what is known of each waiter.
/// - `hf:{x}:t:ID`, for a minute: request ID was withdrawn, or its holder thrown out.
///
/// And for long waits, elsewhere:
/// - `hf:o:{OWNER}`, a set: the resources that an owner asked ``waits`` about, for ten minutes.
///
/// Keys come as KEYS, data as ARGV; nothing is ever put into the text of a script. Only the lock's and the record's name
/// are given, and the others made of them: Lua reads every byte that it is given. On a cluster `hf:{x}:n` is given too,
/// which never exists: so a node answers `TRYAGAIN` while the slot is on its way, instead of failing in mid-script; what
/// is asked then is at ``LockKeys/Manner``.
///
/// The record has four forms, since most of a script's time is spent on reading and writing it. `H`, a plain exclusive
/// hold: token (16 digits), id (32), `.`, ends of the ids of the last requests that ended, `|`, and a description. `R`, the
/// same, and it was released. `F`, free, with dashes for the id and no description. `G`, everything else. An uncontended
/// acquire or release of an exclusive lock sees only the first three, makes four short calls to Redis, and does not get
/// as far as the rules for the rest.
///
/// Of several holders, a command touches those that it is for and those whose leases are over. Replies to requesters
/// name 100 holders at most; only `status`, `waits`, `revoke` and `force` read every one.
package enum LockScripts {
    static let start = start(floor: "0")

    /// What a script begins with.
    ///
    /// - Parameter floor: What a token that it gives must reach, in Lua: an argument that is given where another server
    ///   may have given tokens that this one does not know.
    /// - Returns: Its first lines.
    static func start(floor: String) -> String {
        """
        local call = redis.call
        local clock
        local floor = \(floor)

        """
    }

    /// The most holders that a reply to a requester names: about 0.4 ms of the server's time.
    ///
    /// ``status`` names all.
    static let maximumBlockers = 100

    /// The head start of one step of priority, in µs.
    static let headStart = Limits.priorityHeadStart.nanoseconds / 1000

    /// KEYS: lock, record.
    ///
    /// ARGV: id, lease, `|lease|lock delay|channel|owner` (what follows in the record of a plain hold), manner. The manner
    /// is `L W|A|S|F M:R` without the spaces: whether to wait (`q`) or not (`f`), in capitals unless it is exclusive and
    /// without priority; wait limit or 0; acceptance; head start in µs; fair or barging (`f`, `b`), or fair and accepting unasked (`d`); the mode (`x`, `s`,
    /// `u`, `pN`); the references of what is kept.
    ///
    /// Answers the token; 0 finished; -1 queue full; or `{1 waiting | 2 busy, position, check after, holder…}`.
    package static let acquire = acquire(floor: "")

    /// The same where others may have given tokens too: its token is not below ARGV 5, nor, if it was handed over and is
    /// now accepted, below ARGV 6.
    ///
    /// ARGV 7 is how often it was tried here, from 1; see ``yield``.
    package static let acquireOnNode = acquire(
        floor: #"""
            local _, _, _, _, given, accepted, number = ...
            floor, least = given + 0, accepted + 0
            if number + 0 > 1 then
              call('SET', string.sub(key, 1, -2) .. 't:' .. me .. ':y', number, 'PX', 60000)
            end
            """#,
        arguments: 7
    )

    private static func acquire(floor: String, arguments: Int = 4) -> LockScript {
        LockScript(
            arguments: arguments,
            joins: true,
            #"""
            local me, lease, named, manner = ...
            local floor, least = 0, 0
            local key = second or 'hf:{' .. first .. '}:h'
            \#(floor)
            local record = call('GETRANGE', key, '0', '170')
            local form = byte(record)
            if not form and call('EXISTS', sub(key, 1, -2) .. 'q') == 0 then
              form, record = 70, 'F0000000000000000--------------------------------.|'
            end
            if (form == 82 or form == 70) and byte(manner) > 96 then
              local from = form == 82 and 34 or 51
              local past = sub(record, from, math.min((find(record, '|', 51, true) or 171) - 1, from + 118))
              if find(past, sub(me, 17), 1, true) then return 0 end
              if call('SET', first, me, 'NX', 'PX', lease) then
                clock = clock or call('TIME')
                local token = clock[1] * 1000000 + clock[2]
                local following = sub(record, 2, 17) + 1
                -- The time to live is set anew once an hour; tokens in the future say nothing about when that was.
                local isSet = following <= token and math.floor(following / 3600000000) == math.floor(token / 3600000000)
                if following > token then token = following end
                if floor > token then token, isSet = floor, false end
                record = format('H%016d', token) .. me .. '.' .. past ..
                  '|' .. clock[1] .. '|' .. clock[2] .. named
                if isSet then
                  call('SET', key, record, 'KEEPTTL')
                else
                  local ahead = math.max(0, token - clock[1] * 1000000 - clock[2])
                  call('SET', key, record, 'PX', format('%.0f', 172800000 + math.ceil(ahead / 1000)))
                end
                return token
              end
            elseif form == 71 and call('GET', first) == me then
              -- It was handed over, and only has to be accepted.
              local token, id, since, delay, ok, tail =
                string.match(call('GET', key), '^G(%d+)|([^|]*)|(%d+)|%d+|%d+|(%d+)|(%d)|(.*)$')
              if id == me then
                clock = clock or call('TIME')
                call('PEXPIRE', first, lease)
                local ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
                token = token + 0
                -- Who handed it over may know less than who accepts it.
                if ok == '0' and least > token then token = floor end
                call('SET', key, string.format('G%.0f|%s|%s|%.0f|%s|%s|1|%s', token, me, since, ms + lease, lease,
                  delay, tail), 'PX', string.format('%.0f', 172800000 + math.max(0, math.ceil(token / 1000) - ms)))
                return token
              end
            end
            local KEYS, ARGV = { first, second, third }, { ... }
            \#(lineUp)

            """# + prelude + #"""
                lock.load(call('GET', lock.H))
                local gone = lock.tomb > lock.ms and redis.pcall('EXISTS', lock.T .. me) == 1
                if gone or lock.isFinished(me) then return 0 end
                \#(wish)
                local function take()
                  lock.hold(me, mode, ARGV[2], ARGV[2], delays, 1, prio, mail, named)
                end
                lock.asker = me
                local value = lock.settle()
                local mine = lock.kind ~= '' and call('HGET', lock.S, me)
                if mine then
                  local held = lock.touch(me, mine, ARGV[2], least)
                  lock.save()
                  return held
                end
                if value == me then
                  if lock.id == me then
                    call('PEXPIRE', lock.K, ARGV[2])
                    if lock.accepted == 0 and least > lock.token then lock.token = floor end
                    lock.accepted, lock.expires, lock.lease = 1, lock.ms + ARGV[2], ARGV[2] + 0
                  else
                    take()
                  end
                  lock.save()
                  return lock.token
                end
                local position = lock.queue == 1 and call('ZRANK', lock.Q, me)
                -- Whether all before a place in the queue let themselves be passed.
                local function passes(rank)
                  if barges == 'b' or lock.queue == 0 then return true end
                  local index = 0
                  while true do
                    local next = call('ZRANGE', lock.Q, index, index, 'WITHSCORES')
                    if not next[1] or next[1] == me or (rank and next[2] + 0 > rank) then return true end
                    local _, _, _, _, _, _, _, its = string.match(call('HGET', lock.W, next[1]) or '', lock.WAITER)
                    if its ~= 'b' then return false end
                    index = index + 1
                  end
                end
                if lock.fits(mode) and passes(not position and lock.us - head) then
                  if position then
                    lock.drop(me)
                    \#(lookAtQueue)
                  end
                  if lock.leaving and lock.kind == '' and mode ~= 'x' then
                    -- It takes keys that cannot be made here any more.
                    lock.save()
                    return redis.error_reply('TRYAGAIN the lock goes where its slot goes')
                  end
                  take()
                  local given = lock.token
                  if position then lock.promote(true) end
                  lock.save()
                  return given
                end
                local verdict = 1
                if not position then
                  if waits == 'f' then
                    verdict, position = 2, 0
                  elseif lock.leaving and lock.queue == 0 then
                    -- No queue can begin here any more: ask again soon.
                    position, mail = 0, ''
                  else
                    if lock.queue == 1 and call('ZCARD', lock.Q) >= \#(Limits.maximumWaiters) then
                      lock.save()
                      return -1
                    end
                    enqueue()
                    position = call('ZRANK', lock.Q, me)
                  end
                end
                if verdict == 1 and lock.queue == 1 then
                  call('PEXPIRE', lock.Q, lock.DAY)
                  call('PEXPIRE', lock.W, lock.DAY)
                end
                lock.save()
                local wait = 0
                if lock.kind ~= '' then
                  wait = math.max(0, call('ZRANGE', lock.E, 0, 0, 'WITHSCORES')[2] - lock.ms)
                elseif value then
                  wait = call('PTTL', lock.K)
                  -- Nobody tells us of a foreign holder's release.
                  if wait < 0 then wait = 1000 end
                  if lock.foreign and position == 0 then wait = math.min(wait, 100) end
                end
                -- Nobody tells a waiter without a channel anything.
                if mail == '' then wait = math.min(wait, 100) end
                if lock.rest > lock.ms then wait = math.max(wait, lock.rest - lock.ms) end
                return lock.describe({ verdict, position, wait }, value, \#(maximumBlockers))
                """#
        )
    }

    /// After somebody left the queue while nobody is let in: the record must not say that there is one when there is none,
    /// or its lock is neither here nor there while its slot is on its way.
    ///
    /// An error means that it is gone.
    static let lookAtQueue = "if redis.pcall('EXISTS', lock.Q) ~= 1 then lock.queue, lock.due = 0, 0 end"

    /// Reads the arguments of an acquire, and puts the request into the queue.
    static let wish = #"""
        local delays, mail, named = string.match(ARGV[3], '^|%d+|(%d+)|([^|]*)|(.*)$')
        local waits, limit, acceptance, head, barges, mode, holding =
          string.match(string.lower(ARGV[4]), '^(%a)(%d+)|(%d+)|(%-?%d+)|(%a)([^:]*):(%x*)$')
        local prio = head / \#(LockScripts.headStart)
        local function enqueue()
          local till = 0
          if limit ~= '0' then
            till = lock.ms + limit
            if lock.due == 0 or till < lock.due then lock.due = till end
          end
          lock.queue = 1
          call('ZADD', lock.Q, string.format('%.0f', lock.us - head), me)
          call('HSET', lock.W, me, string.format('%.0f|%.0f|%s|%s|%s|%d|%s|%s|%s|%s|%s', lock.us, till, ARGV[2],
            acceptance, delays, prio, mode, barges, holding, mail, named))
        end
        """#

    /// KEYS: lock, record.
    ///
    /// ARGV: id, and where another server may have given tokens, what the next one must reach.
    ///
    /// Answers 1 released, 0 not held, 2 it had ended before.
    package static let release = LockScript(
        arguments: 1,
        joins: true,
        ahead: #"""
            local values = call('MGET', unpack(locks))
            known = {}
            for i = 1, count do known[locks[i]] = values[i] end
            """#,
        #"""
        local me = ...
        local key = second or 'hf:{' .. first .. '}:h'
        local value = known and known[first]
        if value == nil then value = call('GET', first) end
        if known then known[first] = nil end
        if value == me and call('GETRANGE', key, '0', '0') == 'H' then
          -- Needs no memory, and lets the other write pass where there is none.
          call('DEL', first)
          call('SETRANGE', key, '0', 'R')
          return 1
        end
        local KEYS, ARGV = { first, second, third }, { ... }
        local floor = (ARGV[2] or 0) + 0

        """# + prelude + letGo
    )

    /// KEYS: lock, record.
    ///
    /// ARGV: id, and what the next token must reach, as for ``release``.
    ///
    /// Answers 2 released, 1 left the queue, 0 not known.
    package static let withdraw = LockScript(
        arguments: 1,
        start(floor: "(ARGV[2] or 0) + 0") + prelude + #"""
            local me = ARGV[1]
            lock.load(call('GET', lock.H))
            -- First a write that a server without memory lets pass, and with it the others.
            call('PEXPIRE', lock.H, lock.life(lock.token))
            local value = lock.settle()
            -- In a slot that leaves none can be made; the record remembers it too.
            local try = lock.leaving and redis.pcall or call
            try('SET', lock.T .. me, '1', 'PX', 60000)
            lock.tomb = lock.ms + 60000
            local answer = 0
            if lock.kind ~= '' and call('HGET', lock.S, me) then
              lock.leave(me)
              answer = 2
            elseif value == me then
              lock.open()
              lock.vacate()
              answer = 2
            elseif lock.queue == 1 and call('ZSCORE', lock.Q, me) then
              lock.drop(me)
              \#(lookAtQueue)
              answer = 1
            end
            lock.finish(me, true)
            if answer > 0 then lock.settle(true) end
            lock.save()
            return answer
            """#
    )

    /// Reads a record: not what another program keeps under its name, which is ``false`` and `true`, and no reason not to
    /// look at the locks that come after it.
    static let look = #"""
        local function look()
          local record = redis.pcall('GET', lock.H)
          if type(record) ~= 'table' then return record, false end
          -- Any other error is one.
          if not string.find(record.err, 'WRONGTYPE', 1, true) then call('GET', lock.H) end
          return false, true
        end

        """#

    /// KEYS: lock, record for each grant.
    ///
    /// ARGV: id, lease for each; then what the next token must reach, as for ``release``.
    ///
    /// Answers for each 0 lost, 1 renewed, 2 renewed and asked to let go, -1 not known.
    package static let renew = LockScript(
        arguments: 2,
        start(floor: "#ARGV % 2 == 1 and ARGV[#ARGV] + 0 or 0") + prelude + look + #"""
            local answers = {}
            for i = 1, #KEYS / lock.STEP do
              lock.choose(i)
              local me, lasts = ARGV[2 * i - 1], ARGV[2 * i]
              local record, isOdd = look()
              -- What another program put there is not ours, and no reason to forget those that come after it.
              local value = redis.pcall('GET', lock.K)
              local isStrange = type(value) == 'table'
              -- A server without memory lets a script write whose first write needs none: what is held is kept.
              if record then
                local token = string.byte(record) == 71 and string.match(record, '%d+') or string.sub(record, 2, 17)
                call('PEXPIRE', lock.H, lock.life(token))
              end
              if isStrange then
                answers[i] = 0
              elseif isOdd then
                -- The key says who holds exclusively; who holds beside others only the record knew.
                answers[i] = value == me and call('PEXPIRE', lock.K, lasts) or value == lock.MARK and -1 or 0
              elseif value == me and record and string.find(record, '^H[^|]*|%d+|%d+|%d+|0|') then
                -- A plain hold without a lock delay: the lease is the key's alone.
                call('PEXPIRE', lock.K, lasts)
                answers[i] = 1
              else
                lock.load(record)
                if value ~= me and (lock.id ~= '' or lock.kind ~= '' or lock.queue == 1) then
                  value = lock.settle()
                  if value ~= me and lock.kind == '' then lock.save() end
                end
                answers[i] = 0
                if value == me then
                  if lock.id == me then
                    call('PEXPIRE', lock.K, lasts)
                  else
                    lock.hold(me, 'x', lasts, lasts, 0, 1, 0, '', '')
                  end
                  lock.accepted, lock.expires, lock.lease = 1, lock.ms + lasts, lasts + 0
                  lock.save()
                  answers[i] = 1 + lock.revoke
                elseif lock.kind ~= '' then
                  local mine = call('HGET', lock.S, me)
                  if mine then
                    local _, asked = lock.touch(me, mine, lasts)
                    answers[i] = 1 + asked
                  end
                  lock.save()
                end
              end
            end
            return answers
            """#
    )

    /// KEYS: lock, record.
    ///
    /// ARGV: id, mode, `f` (do not wait), `q` (wait) or `p` (wait, without messages), references of what is kept, the
    /// number of this change; then what the next token must reach, as for ``release``.
    ///
    /// In a slot of a cluster that leaves a node, who holds beside others can become exclusive, but not the other way: that
    /// takes keys that cannot be made there any more, and is an error before anything has changed. Nor is a copy told there
    /// that came after another change.
    ///
    /// Answers the token; 0 lost; less than 0 for a copy that came after a change with a higher number, which this is, made
    /// within the last minute; or `{1 waiting | 2 busy, 0, check after, holder…}`.
    package static let convert = LockScript(
        arguments: 5,
        start(floor: "(ARGV[6] or 0) + 0") + prelude + #"""
            local me, mode = ARGV[1], ARGV[2]
            lock.load(call('GET', lock.H))
            -- In a slot that leaves there may be no such key, and none can be made.
            local try = lock.leaving and redis.pcall or call
            local last = try('GET', lock.T .. me .. ':c')
            last = type(last) == 'string' and tonumber(last)
            if last and last > ARGV[5] + 0 then return -last end
            -- First a write that a server without memory lets pass, and with it the others.
            if mode ~= 'x' then call('PEXPIRE', lock.H, lock.life(lock.token)) end
            try('SET', lock.T .. me .. ':c', ARGV[5], 'PX', 60000)
            local value = lock.settle()
            if value == me and lock.id ~= me then lock.hold(me, 'x', call('PTTL', lock.K), 0, 0, 1, 0, '', '') end
            local mine = lock.kind ~= '' and call('HGET', lock.S, me)
            local present, own = 'x', lock.token
            if mine then
              local m, tok = string.match(mine, lock.HOLD)
              present, own = m, tok + 0
            elseif lock.id ~= me then
              lock.save()
              return 0
            end
            if present ~= mode then
              local others = mine and call('ZCARD', lock.E) - 1 or 0
              local family = string.sub(mode, 1, 1)
              -- Who vanished may not have noticed yet: a writer waits for the end of the rest as a newcomer would.
              if (mode == 'x' and lock.rest > 0) or
                others > 0 and not ((family == 'p' and lock.kind == 'p' and others < tonumber(string.sub(mode, 2))) or
                (lock.kind == 's' and (family == 's' or
                (family == 'u' and (lock.updater == '' or lock.updater == me))))) then
                local verdict, wait = 2, 0
                if ARGV[3] ~= 'f' and mode == 'x' and present == 'u' then
                  verdict, lock.keeps = 1, ARGV[4]
                  if lock.wish == 0 then lock.wish = lock.us end
                  local ends = call('ZRANGE', lock.E, 0, 1, 'WITHSCORES')
                  if others > 0 then wait = math.max(0, (ends[1] == me and ends[4] or ends[2]) - lock.ms) end
                  if ARGV[3] == 'p' then wait = math.min(wait, 100) end
                  if lock.rest > lock.ms then wait = math.max(wait, lock.rest - lock.ms) end
                end
                lock.save()
                return lock.describe({ verdict, 0, wait }, lock.MARK, \#(maximumBlockers), me)
              end
              if mode == 'x' then
                lock.seize(me)
                own = lock.token
              elseif mine then
                local _, tok, from, rests, ok, asked, prio, ch, its = string.match(mine, lock.HOLD)
                lock.put(me, mode, tok, from, rests, ok, asked, prio, ch, its)
              else
                -- The key alone knows of renewals.
                local left = call('PTTL', lock.K)
                local ends = left < 0 and lock.expires or lock.ms + math.max(1, left)
                local from, rests, ok = lock.since, lock.delay, lock.accepted
                local asked, prio, ch, its = lock.revoke, lock.priority, lock.channel, lock.owner
                lock.vacate()
                lock.clear()
                lock.put(me, mode, own, from, string.format('%.0f', rests), ok, asked, prio, ch, its)
                call('ZADD', lock.E, ends, me)
              end
            end
            if me == lock.updater then lock.wish, lock.keeps = 0, '' end
            lock.promote(true)
            lock.save()
            return own
            """#
    )
}
