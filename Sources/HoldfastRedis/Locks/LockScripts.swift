// SPDX-License-Identifier: Apache-2.0

import HoldfastCore

/// The Lua scripts: ``LockTable`` said in Redis' words, for exclusive locks.
///
/// Resource `x` is held exactly when the string key `x` exists; its value is the holder's proof (plain Redlock), its
/// time to live the lease. Beside it, in the same hash slot:
/// - `hf:{x}:h`, one string: the last token, the holder's description, what the resource rests for, the last requests
///   that ended. It expires two days after its last use; tokens then go on from the server's clock.
/// - `hf:{x}:q`, a sorted set: who waits, by rank.
/// - `hf:{x}:w`, a hash: what is known of each waiter.
/// - `hf:{x}:t:ID`, for a minute: request ID was withdrawn.
///
/// Keys come as KEYS, data as ARGV; nothing is ever put into the text of a script.
///
/// The record has three forms, since most of a script's time is spent on reading and writing it: `F` the resource is
/// free, with a token and the ends of the ids of the last requests that ended; `H` the same and a plain hold; `G`
/// everything else. An uncontended acquire or release sees only `F` and `H`, makes four calls to Redis, and does not
/// get as far as the rules for the rest.
package enum LockScripts {
    private static let start = """
        local call = redis.call
        local clock

        """

    /// Reads a lock's record and says the rules that all scripts share.
    ///
    /// `since`, ranks and tokens are in microseconds, all else in milliseconds of the server's clock.
    private static let prelude = #"""
        local K, H, Q, W = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
        clock = clock or call('TIME')
        local us = clock[1] * 1000000 + clock[2]
        local ms = math.floor(us / 1000)
        local DAY = '86400000'
        local token, id, since, expires, lease, delay, accepted, revoke, rest, tomb, queue, due, channel, ended, owner
        local function reset()
          token, id, since, expires, lease, delay, accepted, revoke = 0, '', 0, 0, 0, 0, 0, 0
          rest, tomb, queue, due, channel, ended, owner = 0, 0, 0, 0, '', '', ''
        end
        local PLAIN = '^H(%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d%d)(%x*)|([^|]*)|(%d+)|(%d+)|(%d+)|(%d+)|([^|]*)|(.*)$'
        local GENERAL =
          '^G(%d+)|([^|]*)|(%d+)|(%d+)|(%d+)|(%d+)|(%d)|(%d)|(%d+)|(%d+)|(%d)|(%d+)|([^|]*)|([^|]*)|(.*)$'
        local function load(record)
          reset()
          local form = record and string.byte(record)
          if form == 70 then
            token, ended = (tonumber(string.sub(record, 2, 17)) or 0), string.sub(record, 18)
          elseif form == 72 then
            local a, b, c, d, e, f, g, h, i = string.match(record, PLAIN)
            if a then
              token, ended, id, since, lease, delay, accepted = a + 0, b, c, d * 1000000 + e, f + 0, g + 0, 1
              expires, channel, owner = math.floor(since / 1000) + lease, h, i
            end
          elseif form == 71 then
            local a, b, c, d, e, f, g, h, i, j, k, l, m, n, o = string.match(record, GENERAL)
            if a then
              token, id, since, expires, lease, delay = a + 0, b, c + 0, d + 0, e + 0, f + 0
              accepted, revoke, rest, tomb, queue, due = g + 0, h + 0, i + 0, j + 0, k + 0, l + 0
              channel, ended, owner = m, n, o
            end
          elseif call('EXISTS', Q) == 1 then
            queue = 1
          end
        end
        local function save()
          local record
          if id == '' and queue == 0 and rest == 0 and tomb <= ms then
            record = string.format('F%016.0f', token) .. ended
          else
            record = string.format('G%.0f|%s|%.0f|%.0f|%.0f|%.0f|%d|%d|%.0f|%.0f|%d|%.0f|%s|%s|%s', token, id, since,
              expires, lease, delay, accepted, revoke, rest, tomb, queue, due, channel, ended, owner)
          end
          call('SET', H, record, 'PX', '172800000')
        end
        local function finish(who)
          ended = string.sub(string.sub(who, 17) .. ended, 1, 256)
        end
        local function isFinished(who)
          return string.find(ended, string.sub(who, 17), 1, true) ~= nil
        end
        local function vacate()
          id, since, expires, delay, accepted, revoke, channel, owner = '', 0, 0, 0, 0, 0, '', ''
        end
        local function hold(who, lasts, leased, rests, isAccepted, ch, own)
          token = token + 1
          if us > token then token = us end
          id, since, expires, lease, delay = who, us, ms + lasts, leased, rests
          accepted, revoke, channel, owner = isAccepted, 0, ch, own
        end
        local WAITER = '^(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|([^|]*)|(.*)$'
        local function purge()
          due = 0
          local all = call('HGETALL', W)
          for i = 1, #all, 2 do
            local _, till = string.match(all[i + 1], WAITER)
            till = (till or 1) + 0
            if till > 0 and till <= ms then
              call('ZREM', Q, all[i])
              call('HDEL', W, all[i])
            elseif till > 0 and (due == 0 or till < due) then
              due = till
            end
          end
          if call('EXISTS', Q) == 0 then queue = 0 end
        end
        local function promote()
          while queue == 1 do
            local head = call('ZPOPMIN', Q)[1]
            if not head then
              queue, due = 0, 0
              return
            end
            local record = call('HGET', W, head)
            call('HDEL', W, head)
            if record then
              local _, till, leased, acceptance, rests, ch, own = string.match(record, WAITER)
              till = (till or 1) + 0
              if (till == 0 or till > ms) and (ch == '' or call('PUBLISH', ch, 'g ' .. head) > 0) then
                hold(head, acceptance + 0, leased + 0, rests + 0, 0, ch, own)
                call('SET', K, head, 'PX', acceptance)
                local following = call('ZRANGE', Q, 0, 0)[1]
                if following then
                  local _, _, _, _, _, its = string.match(call('HGET', W, following) or '', WAITER)
                  if its and its ~= '' then call('PUBLISH', its, 'c ' .. following .. ' ' .. acceptance) end
                else
                  queue, due = 0, 0
                end
                return
              end
            end
          end
        end
        local function settle()
          local value = call('GET', K)
          if value ~= id and id ~= '' then
            if accepted == 1 and delay > 0 then
              local till = math.min(expires, ms) + delay
              if till > rest then rest = till end
            end
            vacate()
          end
          if rest > 0 and rest <= ms then rest = 0 end
          if due > 0 and due <= ms then purge() end
          if not value and rest == 0 and queue == 1 then
            promote()
            if id ~= '' then value = id end
          end
          return value
        end
        local function describe(value)
          if not value then return {} end
          if value ~= id then return { '', '', '0', 0, call('PTTL', K), 0 } end
          return { string.sub(id, 1, 8), owner, string.format('%.0f', token), us - since, call('PTTL', K), 1 - accepted }
        end

        """#

    /// KEYS: lock, record, queue, waiters, tombstone.
    ///
    /// ARGV: id, lease, `q` or `f`, wait limit or 0, acceptance, lock delay, head start in µs, channel, owner.
    ///
    /// Answers the token; 0 finished; -1 queue full; or `{1 waiting | 2 busy, position, check after, holder…}`.
    package static let acquire = LockScript(
        keys: 5,
        arguments: 9,
        #"""
        local call = redis.call
        local me = ARGV[1]
        local clock = call('TIME')
        local record = call('GET', KEYS[2])
        if not record and call('EXISTS', KEYS[3]) == 0 then record = 'F0000000000000000' end
        if record and string.byte(record) == 70 then
          if string.find(record, string.sub(me, 17), 18, true) then return 0 end
          if call('SET', KEYS[1], me, 'NX', 'PX', ARGV[2]) then
            local token = clock[1] * 1000000 + clock[2]
            local following = string.sub(record, 2, 17) + 1
            if following > token then token = following end
            call('SET', KEYS[2], string.format('H%016.0f', token) .. string.sub(record, 18) .. '|' .. me .. '|' ..
              clock[1] .. '|' .. clock[2] .. '|' .. ARGV[2] .. '|' .. ARGV[6] .. '|' .. ARGV[8] .. '|' .. ARGV[9],
              'PX', '172800000')
            return token
          end
        end

        """# + prelude + #"""
            load(record)
            if isFinished(me) or (tomb > ms and call('EXISTS', KEYS[5]) == 1) then return 0 end
            local function take()
              if not call('SET', K, me, 'NX', 'PX', ARGV[2]) then return false end
              hold(me, ARGV[2] + 0, ARGV[2] + 0, ARGV[6] + 0, 1, ARGV[8], ARGV[9])
              save()
              return true
            end
            local value = settle()
            if value == me then
              call('PEXPIRE', K, ARGV[2])
              if id == me then
                accepted, expires, lease = 1, ms + ARGV[2], ARGV[2] + 0
              else
                hold(me, ARGV[2] + 0, ARGV[2] + 0, ARGV[6] + 0, 1, ARGV[8], ARGV[9])
              end
              save()
              return token
            end
            local position = queue == 1 and call('ZRANK', Q, me)
            local verdict = 1
            if not position then
              if not value and queue == 0 and rest == 0 and take() then return token end
              if ARGV[3] == 'f' then
                verdict, position = 2, 0
              else
                if queue == 1 and call('ZCARD', Q) >= \#(Limits.maximumWaiters) then
                  save()
                  return -1
                end
                local till = 0
                if ARGV[4] ~= '0' then
                  till = ms + ARGV[4]
                  if due == 0 or till < due then due = till end
                end
                queue = 1
                call('ZADD', Q, string.format('%.0f', us - ARGV[7]), me)
                call('HSET', W, me, string.format('%.0f|%.0f|%s|%s|%s|%s|%s', us, till, ARGV[2], ARGV[5], ARGV[6],
                  ARGV[8], ARGV[9]))
                position = call('ZRANK', Q, me)
              end
            end
            if verdict == 1 then
              call('PEXPIRE', Q, DAY)
              call('PEXPIRE', W, DAY)
            end
            save()
            local after = 0
            if value then
              after = call('PTTL', K)
              -- Nobody tells us of a foreign holder's release, and nobody tells a waiter without a channel anything.
              if after < 0 then after = 1000 end
              if (value ~= id and position == 0) or ARGV[8] == '' then after = math.min(after, 100) end
            end
            if rest > ms then after = math.max(after, rest - ms) end
            local reply = describe(value)
            table.insert(reply, 1, after)
            table.insert(reply, 1, position)
            table.insert(reply, 1, verdict)
            return reply
            """#
    )

    /// KEYS: lock, record, queue, waiters.
    ///
    /// ARGV: id. Answers 1 released, 0 not held, 2 it had ended before.
    package static let release = LockScript(
        keys: 4,
        arguments: 1,
        #"""
        local call = redis.call
        local clock
        local me = ARGV[1]
        local value = call('GET', KEYS[1])
        local record = call('GET', KEYS[2])
        if value == me and record and string.byte(record) == 72 then
          call('DEL', KEYS[1])
          local last = math.min((string.find(record, '|', 18, true) or 18) - 1, 257)
          call('SET', KEYS[2], 'F' .. string.sub(record, 2, 17) .. string.sub(me, 17) .. string.sub(record, 18, last),
            'PX', '172800000')
          return 1
        end

        """# + prelude + #"""
            load(record)
            if value ~= me then
              local had = isFinished(me)
              settle()
              save()
              return had and 2 or 0
            end
            call('DEL', K)
            finish(me)
            vacate()
            if rest > 0 or queue == 1 then settle() end
            save()
            return 1
            """#
    )

    /// KEYS: lock, record, queue, waiters, tombstone.
    ///
    /// ARGV: id.
    ///
    /// Answers 2 released, 1 left the queue, 0 not known.
    package static let withdraw = LockScript(
        keys: 5,
        arguments: 1,
        start + prelude + #"""
            local me = ARGV[1]
            load(call('GET', H))
            local value = settle()
            call('SET', KEYS[5], '1', 'PX', 60000)
            tomb = ms + 60000
            local answer = 0
            if value == me then
              call('DEL', K)
              vacate()
              answer = 2
            elseif queue == 1 and call('ZREM', Q, me) == 1 then
              call('HDEL', W, me)
              answer = 1
            end
            finish(me)
            settle()
            save()
            return answer
            """#
    )

    /// KEYS: lock, record, queue, waiters for each grant.
    ///
    /// ARGV: id, lease for each.
    ///
    /// Answers for each 0 lost, 1 renewed, 2 renewed and asked to let go.
    package static let renew = LockScript(
        keys: 4,
        arguments: 2,
        start + prelude + #"""
            local answers = {}
            for i = 1, #KEYS / 4 do
              K, H, Q, W = KEYS[4 * i - 3], KEYS[4 * i - 2], KEYS[4 * i - 1], KEYS[4 * i]
              local me, lasts = ARGV[2 * i - 1], ARGV[2 * i]
              load(call('GET', H))
              if call('GET', K) == me then
                call('PEXPIRE', K, lasts)
                if id ~= me then hold(me, lasts + 0, lasts + 0, 0, 1, '', '') end
                accepted, expires, lease = 1, ms + lasts, lasts + 0
                save()
                answers[i] = 1 + revoke
              else
                if id ~= '' or queue == 1 then
                  settle()
                  save()
                end
                answers[i] = 0
              end
            end
            return answers
            """#
    )

    /// KEYS: lock, record, queue, waiters.
    ///
    /// Answers `{reached, holder…}`.
    package static let revoke = LockScript(
        keys: 4,
        arguments: 0,
        start + prelude + #"""
            load(call('GET', H))
            local value = settle()
            local reached = 0
            if value and value == id then
              revoke = 1
              if channel ~= '' then reached = math.min(call('PUBLISH', channel, 'r ' .. id), 1) end
            end
            save()
            local reply = describe(value)
            table.insert(reply, 1, reached)
            return reply
            """#
    )

    /// KEYS: lock, record, queue, waiters.
    ///
    /// Answers the holder that was thrown out, or nothing.
    package static let force = LockScript(
        keys: 4,
        arguments: 0,
        start + prelude + #"""
            load(call('GET', H))
            local value = settle()
            local reply = describe(value)
            if value then
              call('DEL', K)
              if value == id then
                finish(id)
                if channel ~= '' then call('PUBLISH', channel, 'l ' .. id) end
                if accepted == 1 and delay > 0 and ms + delay > rest then rest = ms + delay end
                vacate()
              end
              settle()
            end
            save()
            return reply
            """#
    )

    /// KEYS: lock, record, queue, waiters for each resource.
    ///
    /// Writes nothing.
    ///
    /// Answers for each `{rests for, {holder…}, {id, µs waited, owner, …}}`.
    package static let status = LockScript(
        keys: 4,
        arguments: 0,
        start + prelude + #"""
            local answers = {}
            for i = 1, #KEYS / 4 do
              K, H, Q, W = KEYS[4 * i - 3], KEYS[4 * i - 2], KEYS[4 * i - 1], KEYS[4 * i]
              load(call('GET', H))
              local value = call('GET', K)
              local resting = math.max(rest - ms, 0)
              if not value and id ~= '' and accepted == 1 and delay > 0 then
                resting = math.max(resting, math.min(expires, ms) + delay - ms)
              end
              local waiters = {}
              if queue == 1 then
                for _, who in ipairs(call('ZRANGE', Q, 0, 999)) do
                  local from, till, _, _, _, _, own = string.match(call('HGET', W, who) or '', WAITER)
                  if from and (till == '0' or till + 0 > ms) then
                    waiters[#waiters + 1] = string.sub(who, 1, 8)
                    waiters[#waiters + 1] = us - from
                    waiters[#waiters + 1] = own
                  end
                end
              end
              answers[i] = { resting, describe(value), waiters }
            end
            return answers
            """#
    )
}
