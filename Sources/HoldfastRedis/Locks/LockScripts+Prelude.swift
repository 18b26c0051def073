// SPDX-License-Identifier: Apache-2.0

extension LockScripts {
    /// The rules that all scripts share.
    static let prelude = state + holders

    /// Reads and writes a lock's record.
    ///
    /// `since`, ranks and tokens are in microseconds, all else in milliseconds of the server's clock.
    private static let state = #"""
        clock = clock or call('TIME')
        -- All state and all rules are in one table: a function then refers to two variables of the script instead of
        -- twenty, and making the functions, which every call does, was half of what a call cost.
        local lock = {
          DAY = '86400000', MARK = 'hf:shared', NOBODY = '--------------------------------.', floor = floor,
          PLAIN = '^([^|]*)|(%d+)|(%d+)|(%d+)|(%d+)|([^|]*)|(.*)$',
          GENERAL = '^G(%d+)|([^|]*)|(%d+)|(%d+)|(%d+)|(%d+)|(%d)|(%d)|(%-?%d+)|(%d+)|(%d+)|(%d)|(%d+)|(%a?)|' ..
            '([^|]*)|(%d+)|(%x*)|([^|]*)|([^|]*)|(.*)$',
          HOLD = '^([^|]*)|(%d+)|(%d+)|(%d+)|(%d)|(%d)|(%-?%d+)|([^|]*)|(.*)$',
          WAITER = '^(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%-?%d+)|([^|]*)|(%a)|(%x*)|([^|]*)|(.*)$',
          us = clock[1] * 1000000 + clock[2],
          -- How many keys of each lock are given, and what that says of a cluster; see LockKeys.Manner.
          STEP = KEYS[2] ~= 'hf:{' .. KEYS[1] .. '}:h' and 1 or
            (KEYS[3] == KEYS[2] or KEYS[3] == string.sub(KEYS[2], 1, -2) .. 'n') and 3 or 2,
        }
        lock.leaving, lock.guest = lock.STEP == 3 and KEYS[3] == KEYS[2], lock.STEP == 1
        lock.ms = math.floor(lock.us / 1000)
        -- How long a record is kept: until two days after its last use, and after its token's time, so that tokens go on
        -- from it even if a clock was ahead.
        function lock.life(token)
          return string.format('%.0f', 172800000 + math.max(0, math.ceil((tonumber(token) or 0) / 1000) - lock.ms))
        end
        -- One lock's keys: those that are not given are named after its record.
        function lock.name(key, record)
          record = record or 'hf:{' .. key .. '}:h'
          local base = string.sub(record, 1, -2)
          lock.K, lock.H, lock.Q, lock.W = key, record, base .. 'q', base .. 'w'
          lock.S, lock.E, lock.T = base .. 's', base .. 'e', base .. 't:'
          lock.free = false
        end
        function lock.choose(i)
          lock.name(KEYS[lock.STEP * (i - 1) + 1], lock.STEP > 1 and KEYS[lock.STEP * (i - 1) + 2])
        end
        lock.choose(1)
        -- Takes the lock's key away. While a slot leaves, a key that is gone cannot come back: it goes last.
        function lock.open()
          lock.free = lock.leaving
          if not lock.leaving then call('DEL', lock.K) end
        end
        -- Makes sure that there is nobody beside nobody.
        function lock.clear() redis.pcall('DEL', lock.S, lock.E) end
        function lock.vacate()
          lock.id, lock.since, lock.expires, lock.delay, lock.accepted = '', 0, 0, 0, 0
          lock.revoke, lock.priority, lock.channel, lock.owner = 0, 0, '', ''
          lock.kind, lock.updater, lock.wish, lock.keeps, lock.stale = '', '', 0, '', false
        end
        function lock.load(record)
          lock.vacate()
          lock.token, lock.lease, lock.rest, lock.tomb, lock.queue, lock.due, lock.ended = 0, 0, 0, 0, 0, 0, ''
          local form = record and string.byte(record)
          if form == 70 or form == 82 then
            lock.token = tonumber(string.sub(record, 2, 17)) or 0
            lock.ended = string.match(record, '^[^|]*', form == 82 and 34 or 51)
          elseif form == 72 then
            local a, b, c, d, e, f, g = string.match(record, lock.PLAIN, 51)
            if a then
              lock.token, lock.id = tonumber(string.sub(record, 2, 17)) or 0, string.sub(record, 18, 49)
              lock.ended, lock.accepted = a, 1
              lock.since, lock.lease, lock.delay, lock.channel, lock.owner = b * 1000000 + c, d + 0, e + 0, f, g
              lock.expires = math.floor(lock.since / 1000) + lock.lease
            end
          elseif form == 71 then
            local a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t = string.match(record, lock.GENERAL)
            if a then
              lock.token, lock.id, lock.since, lock.expires, lock.lease, lock.delay = a + 0, b, c + 0, d + 0, e + 0, f + 0
              lock.accepted, lock.revoke, lock.priority, lock.rest, lock.tomb = g + 0, h + 0, i + 0, j + 0, k + 0
              lock.queue, lock.due, lock.kind, lock.updater, lock.wish, lock.keeps = l + 0, m + 0, n, o, p + 0, q
              lock.channel, lock.ended, lock.owner = r, s, t
            end
          elseif call('EXISTS', lock.Q) == 1 then
            lock.queue = 1
          end
          if lock.guest and (lock.kind ~= '' and (call('EXISTS', lock.S) == 0 or call('EXISTS', lock.E) == 0) or
            lock.queue == 1 and (call('EXISTS', lock.Q) == 0 or call('EXISTS', lock.W) == 0)) then
            error({ err = 'TRYAGAIN some keys of the lock are on their way' })
          end
        end
        function lock.save()
          if lock.stale then
            -- The marker lasts as long as the holder who ends last.
            local last = call('ZRANGE', lock.E, -1, -1, 'WITHSCORES')
            call('SET', lock.K, lock.MARK, 'PX', math.max(1, (last[2] or 0) - lock.ms))
            call('PEXPIRE', lock.S, '172800000')
            call('PEXPIRE', lock.E, '172800000')
            lock.stale, lock.free = false, false
          end
          if lock.free then
            call('DEL', lock.K)
            lock.free = false
          end
          local record
          if lock.id == '' and lock.kind == '' and lock.queue == 0 and lock.rest == 0 and lock.tomb <= lock.ms then
            record = string.format('F%016.0f', lock.token) .. lock.NOBODY .. lock.ended .. '|'
          else
            record = string.format('G%.0f|%s|%.0f|%.0f|%.0f|%.0f|%d|%d|%d|%.0f|%.0f|%d|%.0f|%s|%s|%.0f|%s|%s|%s|%s',
              lock.token, lock.id, lock.since, lock.expires, lock.lease, lock.delay, lock.accepted, lock.revoke,
              lock.priority, lock.rest, lock.tomb, lock.queue, lock.due, lock.kind, lock.updater, lock.wish, lock.keeps, lock.channel, lock.ended, lock.owner)
          end
          call('SET', lock.H, record, 'PX', lock.life(lock.token))
        end
        function lock.isReleased(who)
          return string.find(lock.ended, string.sub(who, 17) .. '.', 1, true) ~= nil
        end
        function lock.isFinished(who)
          return string.find(lock.ended, string.sub(who, 17), 1, true) ~= nil
        end
        -- Remembers a request that ended, and whether its holder released it.
        function lock.finish(who, taken)
          if lock.isFinished(who) then return end
          lock.ended = string.sub(string.sub(who, 17) .. (taken and '!' or '.') .. lock.ended, 1, 272)
        end
        -- How many were told; an error is no reason to stop half-way, since nothing is rolled back.
        function lock.tell(ch, message)
          -- On a cluster: to who listens on this shard, or through all nodes, which count nobody but their own.
          local all = string.match(ch, '^([^{]*~)')
          if all then
            local here = all ~= ch and redis.pcall('SPUBLISH', ch, message)
            if type(here) == 'number' and here > 0 then return here end
            redis.pcall('PUBLISH', all, message)
            return type(here) == 'number' and 0 or -1
          end
          local answer = redis.pcall('PUBLISH', ch, message)
          return type(answer) == 'number' and answer or -1
        end
        function lock.raise()
          lock.token = math.max(lock.token + 1, lock.us, lock.floor)
        end
        function lock.after(ends, delays)
          local till = math.min(ends, lock.ms) + delays
          if till > lock.rest then lock.rest = till end
        end

        """#

    /// Who holds, who is next, and what can be said of them.
    private static let holders = #"""
        function lock.put(who, m, tok, from, rests, ok, asked, prio, ch, own)
          call('HSET', lock.S, who,
            string.format('%s|%.0f|%.0f|%s|%d|%d|%d|%s|%s', m, tok, from, rests, ok, asked, prio, ch, own))
          lock.kind = string.sub(m, 1, 1) == 'p' and 'p' or 's'
          if m == 'u' then
            lock.updater = who
          elseif who == lock.updater then
            lock.updater, lock.wish, lock.keeps = '', 0, ''
          end
          lock.stale = true
        end
        -- Makes one more holder; whether it fits was looked at before.
        function lock.hold(who, m, lasts, leased, rests, ok, prio, ch, own)
          lock.raise()
          if m == 'x' then
            lock.id, lock.since, lock.expires = who, lock.us, lock.ms + lasts
            lock.lease, lock.delay = leased + 0, rests + 0
            lock.accepted, lock.revoke, lock.priority, lock.channel, lock.owner = ok, 0, prio, ch, own
            call('SET', lock.K, who, 'PX', lasts)
            lock.free = false
          else
            if lock.kind == '' then lock.clear() end
            lock.put(who, m, lock.token, lock.us, rests, ok, 0, prio, ch, own)
            call('ZADD', lock.E, lock.ms + lasts, who)
          end
        end
        -- A holder beside others is alive: its lease counts anew.
        function lock.touch(who, record, lasts, least)
          local m, tok, from, rests, ok, asked, prio, ch, own = string.match(record, lock.HOLD)
          if not m then return 0, 0 end
          if ok == '0' then
            -- Who handed it over may know less than who accepts it.
            if least and least > tok + 0 then
              lock.raise()
              tok = lock.token
            end
            lock.put(who, m, tok, from, rests, 1, asked, prio, ch, own)
          end
          call('ZADD', lock.E, lock.ms + lasts, who)
          lock.stale = true
          return tok + 0, asked + 0
        end
        function lock.leave(who)
          call('ZREM', lock.E, who)
          call('HDEL', lock.S, who)
          if who == lock.updater then lock.updater, lock.wish, lock.keeps = '', 0, '' end
          lock.stale = true
          -- An error means that it is gone, too, from a slot that leaves.
          if redis.pcall('EXISTS', lock.E) ~= 1 then
            redis.pcall('DEL', lock.S)
            lock.open()
            lock.vacate()
          end
        end
        -- The only holder becomes exclusive.
        function lock.seize(who)
          local _, _, from, rests, ok, asked, prio, ch, own = string.match(call('HGET', lock.S, who) or '', lock.HOLD)
          local ends = call('ZRANGE', lock.E, 0, 0, 'WITHSCORES')[2]
          lock.clear()
          lock.vacate()
          lock.raise()
          lock.id, lock.since, lock.expires, lock.free = who, (from or lock.us) + 0, ends + 0, false
          lock.lease, lock.delay, lock.accepted = 0, (rests or 0) + 0, (ok or 1) + 0
          lock.revoke, lock.priority, lock.channel, lock.owner = (asked or 0) + 0, (prio or 0) + 0, ch or '', own or ''
          call('SET', lock.K, who, 'PX', math.max(1, ends - lock.ms))
        end
        function lock.fits(m)
          if lock.id ~= '' or lock.foreign or lock.rest > 0 or lock.wish > 0 then return false end
          if lock.kind == '' then return true end
          if string.sub(m, 1, 1) == 'p' then
            return lock.kind == 'p' and call('ZCARD', lock.E) < tonumber(string.sub(m, 2))
          end
          return lock.kind == 's' and (m == 's' or (m == 'u' and lock.updater == ''))
        end
        function lock.drop(who)
          call('ZREM', lock.Q, who)
          call('HDEL', lock.W, who)
        end
        function lock.purge()
          lock.due = 0
          local all = call('HGETALL', lock.W)
          for i = 1, #all, 2 do
            local _, till = string.match(all[i + 1], lock.WAITER)
            till = (till or 1) + 0
            if till > 0 and till <= lock.ms then
              lock.drop(all[i])
            elseif till > 0 and (lock.due == 0 or till < lock.due) then
              lock.due = till
            end
          end
          if redis.pcall('EXISTS', lock.Q) ~= 1 then lock.queue = 0 end
        end
        -- Completes an upgrade, or grants the longest run from the front that fits.
        -- Who barges is told if something changed.
        function lock.promote(changed)
          if lock.wish > 0 then
            if call('ZCARD', lock.E) == 1 and lock.rest == 0 then
              local who = lock.updater
              lock.seize(who)
              if lock.channel ~= '' then lock.tell(lock.channel, 'g ' .. who) end
            end
            return
          end
          if lock.id ~= '' or lock.foreign or lock.rest > 0 then return end
          local patience, told = -1, 0
          while lock.queue == 1 do
            local head = redis.pcall('ZRANGE', lock.Q, 0, 0)[1]
            if not head then
              lock.queue, lock.due = 0, 0
              break
            end
            local from, till, leased, acceptance, rests, prio, m, barges, _, ch, own =
              string.match(call('HGET', lock.W, head) or '', lock.WAITER)
            if not from or (till ~= '0' and till + 0 <= lock.ms) then
              lock.drop(head)
            elseif not lock.fits(m) then
              break
            elseif lock.leaving and lock.kind == '' and m ~= 'x' then
              -- A first holder beside others takes keys that cannot be made here any more. All who wait go where the slot
              -- goes: what is free and has no queue is carried there by whoever asks first. Most are told, the others ask
              -- when they would have anyway.
              for _, who in ipairs(call('ZRANGE', lock.Q, 0, 99)) do
                local _, _, _, _, _, _, _, _, _, its = string.match(call('HGET', lock.W, who) or '', lock.WAITER)
                if its and its ~= '' then lock.tell(its, 'c ' .. who .. ' 0') end
              end
              redis.pcall('DEL', lock.Q, lock.W)
              lock.queue, lock.due = 0, 0
            elseif barges == 'b' then
              if not changed then break end
              if head == lock.asker or ch == '' or lock.tell(ch, 'c ' .. head .. ' 0') ~= 0 then
                patience, told = math.max(patience, acceptance + 0), 1
                break
              end
              lock.drop(head)
            else
              lock.drop(head)
              if barges == 'd' and ch == lock.here then
                -- Whoever asked tells it: nothing is left to accept.
                lock.hold(head, m, leased, leased, rests, 1, prio, ch, own)
                lock.say(head, lock.token)
                patience = math.max(patience, acceptance + 0)
              elseif head == lock.asker or ch == '' or lock.tell(ch, 'g ' .. head) ~= 0 then
                lock.hold(head, m, acceptance, leased, rests, 0, prio, ch, own)
                patience = math.max(patience, acceptance + 0)
              end
            end
          end
          if patience >= 0 and lock.queue == 1 then
            local following = call('ZRANGE', lock.Q, told, told)[1]
            if following then
              local _, _, _, _, _, _, _, _, _, its = string.match(call('HGET', lock.W, following) or '', lock.WAITER)
              if its and its == lock.here then
                lock.say(following, -patience)
              elseif its and its ~= '' then
                lock.tell(its, string.format('c %s %.0f', following, patience))
              end
            end
          end
        end
        -- Ends what is over, hands on what that leaves, and answers what `x` then is.
        function lock.settle(changed)
          local value = not lock.free and call('GET', lock.K)
          if lock.kind ~= '' then
            local over
            if value == lock.MARK then
              over = call('ZRANGE', lock.E, '-inf', lock.ms, 'BYSCORE', 'WITHSCORES')
            else
              -- Whoever took the marker away took the lock from all holders.
              over = call('ZRANGE', lock.E, 0, -1, 'WITHSCORES')
            end
            for i = 1, #over, 2 do
              local _, _, _, rests, ok = string.match(call('HGET', lock.S, over[i]) or '', lock.HOLD)
              if ok == '1' and rests ~= '0' then lock.after(over[i + 1] + 0, rests) end
            end
            if value ~= lock.MARK or call('ZCARD', lock.E) == #over / 2 then
              call('DEL', lock.S, lock.E)
              if value == lock.MARK then
                lock.open()
                value = false
              end
              lock.vacate()
              changed = true
            elseif #over > 0 then
              for i = 1, #over, 2 do lock.leave(over[i]) end
              changed = true
            end
          elseif value ~= lock.id and lock.id ~= '' then
            if lock.accepted == 1 and lock.delay > 0 then lock.after(lock.expires, lock.delay) end
            lock.vacate()
            changed = true
          end
          -- A rest that is longer than any may be was set by a clock that was ahead.
          if lock.rest > lock.ms + 60000 then lock.rest = lock.ms + 60000 end
          if lock.rest > 0 and lock.rest <= lock.ms then
            lock.rest = 0
            changed = true
          end
          if lock.due > 0 and lock.due <= lock.ms then
            lock.purge()
            changed = true
          end
          lock.foreign = value and lock.kind == '' and value ~= lock.id
          if lock.queue == 1 or lock.wish > 0 then lock.promote(changed) end
          if lock.foreign then return value end
          return (lock.id ~= '' and lock.id) or (lock.kind ~= '' and lock.MARK)
        end
        -- Appends the holders, or as many as are asked for, those whose leases end first; seven fields each, the one that
        -- has held longest first.
        function lock.describe(reply, value, most, besides)
          local function add(who, own, tok, from, ends, ok, m)
            local n = #reply
            reply[n + 1], reply[n + 2], reply[n + 3] = string.sub(who, 1, 8), own, string.format('%.0f', tok)
            reply[n + 4], reply[n + 5], reply[n + 6], reply[n + 7] = lock.us - from, ends, 1 - ok, m
          end
          if value == lock.MARK and lock.kind ~= '' then
            local sorted, all = {}, call('ZRANGE', lock.E, 0, most - 1, 'WITHSCORES')
            for i = 1, #all, 2 do
              local who, ends = all[i], all[i + 1] - lock.ms
              if who ~= besides and ends > 0 then
                local m, tok, from, _, ok, _, _, _, own = string.match(call('HGET', lock.S, who) or '', lock.HOLD)
                if m then sorted[#sorted + 1] = { who, own, tok + 0, from, ends, ok, m } end
              end
            end
            table.sort(sorted, function(a, b) return a[3] < b[3] end)
            for _, one in ipairs(sorted) do add(unpack(one)) end
          elseif value and value == lock.id then
            if lock.id ~= besides then
              add(lock.id, lock.owner, lock.token, lock.since, call('PTTL', lock.K), lock.accepted, 'x')
            end
          elseif value then
            add('', '', 0, lock.us, call('PTTL', lock.K), 1, value == lock.MARK and 's' or 'x')
          end
          return reply
        end
        -- Everything about the lock, without changing it: `{rests for, {holder…}, {waiter…}}`.
        function lock.report(most)
          local value = redis.pcall('GET', lock.K)
          -- Another program keeps something else under this name: nobody gets the lock, and no other is hidden by that.
          if type(value) == 'table' then value = 'foreign' end
          local resting = math.max(lock.rest - lock.ms, 0)
          if not value and lock.id ~= '' and lock.accepted == 1 and lock.delay > 0 then
            resting = math.max(resting, math.min(lock.expires, lock.ms) + lock.delay - lock.ms)
          end
          local waiters = {}
          local function add(who, from, own, m, prio, barges, holding)
            local n = #waiters
            waiters[n + 1], waiters[n + 2], waiters[n + 3], waiters[n + 4] = string.sub(who, 1, 8), lock.us - from, own, m
            waiters[n + 5], waiters[n + 6], waiters[n + 7] = prio + 0, barges, holding
          end
          if lock.wish > 0 and value == lock.MARK then
            local _, _, _, _, _, _, prio, _, own = string.match(call('HGET', lock.S, lock.updater) or '', lock.HOLD)
            local alive = call('ZSCORE', lock.E, lock.updater)
            if own and alive and alive + 0 > lock.ms then
              add(lock.updater, lock.wish, own, 'x', prio, 'f', string.sub(lock.updater, 1, 8) .. lock.keeps)
            end
          end
          if lock.queue == 1 then
            for _, who in ipairs(call('ZRANGE', lock.Q, 0, most - 1)) do
              local from, till, _, _, _, prio, m, barges, holding, _, own =
                string.match(call('HGET', lock.W, who) or '', lock.WAITER)
              if from and (till == '0' or till + 0 > lock.ms) then add(who, from, own, m, prio, barges, holding) end
            end
          end
          return { resting, lock.describe({}, value, 0), waiters }
        end

        """#
}
