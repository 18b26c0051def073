// SPDX-License-Identifier: Apache-2.0

extension LockScripts {
    /// The rules that all scripts share.
    static let prelude = state + holders

    /// Reads and writes a lock's record.
    ///
    /// `since`, ranks and tokens are in microseconds, all else in milliseconds of the server's clock.
    private static let state = #"""
        local K, H, Q, W, S, E, T
        -- One lock's keys: those that are not given are named after its record.
        local function name(lock, record)
          local base = string.sub(record, 1, -2)
          K, H, Q, W, S, E, T = lock, record, base .. 'q', base .. 'w', base .. 's', base .. 'e', base .. 't:'
        end
        name(KEYS[1], KEYS[2])
        -- How many keys of each lock are given.
        local STEP = KEYS[3] == string.sub(H, 1, -2) .. 'n' and 3 or 2
        clock = clock or call('TIME')
        local us = clock[1] * 1000000 + clock[2]
        local ms = math.floor(us / 1000)
        local DAY, MARK, NOBODY = '86400000', 'hf:shared', '--------------------------------.'
        local token, id, since, expires, lease, delay, accepted, revoke, priority, channel, owner
        local rest, tomb, queue, due, ended
        local kind, updater, wish, keeps, stale, foreign
        local function vacate()
          id, since, expires, delay, accepted, revoke, priority, channel, owner = '', 0, 0, 0, 0, 0, 0, '', ''
          kind, updater, wish, keeps, stale = '', '', 0, '', false
        end
        local PLAIN = '^([^|]*)|(%d+)|(%d+)|(%d+)|(%d+)|([^|]*)|(.*)$'
        local GENERAL = '^G(%d+)|([^|]*)|(%d+)|(%d+)|(%d+)|(%d+)|(%d)|(%d)|(%-?%d+)|(%d+)|(%d+)|(%d)|(%d+)|(%a?)|' ..
          '([^|]*)|(%d+)|(%x*)|([^|]*)|([^|]*)|(.*)$'
        local function load(record)
          vacate()
          token, lease, rest, tomb, queue, due, ended = 0, 0, 0, 0, 0, 0, ''
          local form = record and string.byte(record)
          if form == 70 or form == 82 then
            token = tonumber(string.sub(record, 2, 17)) or 0
            ended = string.match(record, '^[^|]*', form == 82 and 34 or 51)
          elseif form == 72 then
            local a, b, c, d, e, f, g = string.match(record, PLAIN, 51)
            if a then
              token, id, ended, accepted = tonumber(string.sub(record, 2, 17)) or 0, string.sub(record, 18, 49), a, 1
              since, lease, delay, channel, owner = b * 1000000 + c, d + 0, e + 0, f, g
              expires = math.floor(since / 1000) + lease
            end
          elseif form == 71 then
            local a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t = string.match(record, GENERAL)
            if a then
              token, id, since, expires, lease, delay = a + 0, b, c + 0, d + 0, e + 0, f + 0
              accepted, revoke, priority, rest, tomb = g + 0, h + 0, i + 0, j + 0, k + 0
              queue, due, kind, updater, wish, keeps = l + 0, m + 0, n, o, p + 0, q
              channel, ended, owner = r, s, t
            end
          elseif call('EXISTS', Q) == 1 then
            queue = 1
          end
        end
        local function save()
          if stale then
            -- The marker lasts as long as the holder who ends last.
            local last = call('ZRANGE', E, -1, -1, 'WITHSCORES')
            call('SET', K, MARK, 'PX', math.max(1, (last[2] or 0) - ms))
            call('PEXPIRE', S, '172800000')
            call('PEXPIRE', E, '172800000')
            stale = false
          end
          local record
          if id == '' and kind == '' and queue == 0 and rest == 0 and tomb <= ms then
            record = string.format('F%016.0f', token) .. NOBODY .. ended .. '|'
          else
            record = string.format('G%.0f|%s|%.0f|%.0f|%.0f|%.0f|%d|%d|%d|%.0f|%.0f|%d|%.0f|%s|%s|%.0f|%s|%s|%s|%s',
              token, id, since, expires, lease, delay, accepted, revoke, priority, rest, tomb, queue, due, kind, updater,
              wish, keeps, channel, ended, owner)
          end
          call('SET', H, record, 'PX', '172800000')
        end
        local function isReleased(who)
          return string.find(ended, string.sub(who, 17) .. '.', 1, true) ~= nil
        end
        local function isFinished(who)
          return string.find(ended, string.sub(who, 17), 1, true) ~= nil
        end
        -- Remembers a request that ended, and whether its holder released it.
        local function finish(who, taken)
          if isFinished(who) then return end
          ended = string.sub(string.sub(who, 17) .. (taken and '!' or '.') .. ended, 1, 272)
        end
        -- How many were told; an error is no reason to stop half-way, since nothing is rolled back.
        local function tell(ch, message)
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
        local asker
        local function raise()
          token = math.max(token + 1, us, floor)
        end
        local function after(ends, delays)
          local till = math.min(ends, ms) + delays
          if till > rest then rest = till end
        end

        """#

    /// Who holds, who is next, and what can be said of them.
    private static let holders = #"""
        local HOLD = '^([^|]*)|(%d+)|(%d+)|(%d+)|(%d)|(%d)|(%-?%d+)|([^|]*)|(.*)$'
        local function put(who, m, tok, from, rests, ok, asked, prio, ch, own)
          call('HSET', S, who,
            string.format('%s|%.0f|%.0f|%s|%d|%d|%d|%s|%s', m, tok, from, rests, ok, asked, prio, ch, own))
          kind = string.sub(m, 1, 1) == 'p' and 'p' or 's'
          if m == 'u' then
            updater = who
          elseif who == updater then
            updater, wish, keeps = '', 0, ''
          end
          stale = true
        end
        -- Makes one more holder; whether it fits was looked at before.
        local function hold(who, m, lasts, leased, rests, ok, prio, ch, own)
          raise()
          if m == 'x' then
            id, since, expires, lease, delay = who, us, ms + lasts, leased + 0, rests + 0
            accepted, revoke, priority, channel, owner = ok, 0, prio, ch, own
            call('SET', K, who, 'PX', lasts)
          else
            if kind == '' then call('DEL', S, E) end
            put(who, m, token, us, rests, ok, 0, prio, ch, own)
            call('ZADD', E, ms + lasts, who)
          end
        end
        -- A holder beside others is alive: its lease counts anew.
        local function touch(who, record, lasts)
          local m, tok, from, rests, ok, asked, prio, ch, own = string.match(record, HOLD)
          if not m then return 0, 0 end
          if ok == '0' then put(who, m, tok, from, rests, 1, asked, prio, ch, own) end
          call('ZADD', E, ms + lasts, who)
          stale = true
          return tok + 0, asked + 0
        end
        local function leave(who)
          call('ZREM', E, who)
          call('HDEL', S, who)
          if who == updater then updater, wish, keeps = '', 0, '' end
          stale = true
          if call('EXISTS', E) == 0 then
            call('DEL', S, K)
            vacate()
          end
        end
        -- The only holder becomes exclusive.
        local function seize(who)
          local _, _, from, rests, ok, asked, prio, ch, own = string.match(call('HGET', S, who) or '', HOLD)
          local ends = call('ZRANGE', E, 0, 0, 'WITHSCORES')[2]
          call('DEL', S, E)
          vacate()
          raise()
          id, since, expires, lease, delay = who, (from or us) + 0, ends + 0, 0, (rests or 0) + 0
          accepted, revoke, priority, channel, owner = (ok or 1) + 0, (asked or 0) + 0, (prio or 0) + 0, ch or '', own or ''
          call('SET', K, who, 'PX', math.max(1, ends - ms))
        end
        local function fits(m)
          if id ~= '' or foreign or rest > 0 or wish > 0 then return false end
          if kind == '' then return true end
          if string.sub(m, 1, 1) == 'p' then return kind == 'p' and call('ZCARD', E) < tonumber(string.sub(m, 2)) end
          return kind == 's' and (m == 's' or (m == 'u' and updater == ''))
        end
        local WAITER = '^(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%-?%d+)|([^|]*)|(%a)|(%x*)|([^|]*)|(.*)$'
        local function drop(who)
          call('ZREM', Q, who)
          call('HDEL', W, who)
        end
        local function purge()
          due = 0
          local all = call('HGETALL', W)
          for i = 1, #all, 2 do
            local _, till = string.match(all[i + 1], WAITER)
            till = (till or 1) + 0
            if till > 0 and till <= ms then
              drop(all[i])
            elseif till > 0 and (due == 0 or till < due) then
              due = till
            end
          end
          if call('EXISTS', Q) == 0 then queue = 0 end
        end
        -- Completes an upgrade, or grants the longest run from the front that fits.
        -- Who barges is told if something changed.
        local function promote(changed)
          if wish > 0 then
            if call('ZCARD', E) == 1 then
              local who = updater
              seize(who)
              if channel ~= '' then tell(channel, 'g ' .. who) end
            end
            return
          end
          if id ~= '' or foreign or rest > 0 then return end
          local patience, told = -1, 0
          while queue == 1 do
            local head = call('ZRANGE', Q, 0, 0)[1]
            if not head then
              queue, due = 0, 0
              break
            end
            local from, till, leased, acceptance, rests, prio, m, barges, _, ch, own =
              string.match(call('HGET', W, head) or '', WAITER)
            if not from or (till ~= '0' and till + 0 <= ms) then
              drop(head)
            elseif not fits(m) then
              break
            elseif barges == 'b' then
              if not changed then break end
              if head == asker or ch == '' or tell(ch, 'c ' .. head .. ' 0') ~= 0 then
                patience, told = math.max(patience, acceptance + 0), 1
                break
              end
              drop(head)
            else
              drop(head)
              if head == asker or ch == '' or tell(ch, 'g ' .. head) ~= 0 then
                hold(head, m, acceptance, leased, rests, 0, prio, ch, own)
                patience = math.max(patience, acceptance + 0)
              end
            end
          end
          if patience >= 0 and queue == 1 then
            local following = call('ZRANGE', Q, told, told)[1]
            if following then
              local _, _, _, _, _, _, _, _, _, its = string.match(call('HGET', W, following) or '', WAITER)
              if its and its ~= '' then
                tell(its, string.format('c %s %.0f', following, patience))
              end
            end
          end
        end
        -- Ends what is over, hands on what that leaves, and answers what `x` then is.
        local function settle(changed)
          local value = call('GET', K)
          if kind ~= '' then
            local over
            if value == MARK then
              over = call('ZRANGE', E, '-inf', ms, 'BYSCORE', 'WITHSCORES')
            else
              -- Whoever took the marker away took the lock from all holders.
              over = call('ZRANGE', E, 0, -1, 'WITHSCORES')
            end
            for i = 1, #over, 2 do
              local _, _, _, rests, ok = string.match(call('HGET', S, over[i]) or '', HOLD)
              if ok == '1' and rests ~= '0' then after(over[i + 1] + 0, rests) end
            end
            if value ~= MARK or call('ZCARD', E) == #over / 2 then
              call('DEL', S, E)
              if value == MARK then
                call('DEL', K)
                value = false
              end
              vacate()
              changed = true
            elseif #over > 0 then
              for i = 1, #over, 2 do leave(over[i]) end
              changed = true
            end
          elseif value ~= id and id ~= '' then
            if accepted == 1 and delay > 0 then after(expires, delay) end
            vacate()
            changed = true
          end
          if rest > 0 and rest <= ms then
            rest = 0
            changed = true
          end
          if due > 0 and due <= ms then
            purge()
            changed = true
          end
          foreign = value and kind == '' and value ~= id
          if queue == 1 or wish > 0 then promote(changed) end
          if foreign then return value end
          return (id ~= '' and id) or (kind ~= '' and MARK)
        end
        -- Appends the holders, or as many as are asked for, those whose leases end first; seven fields each, the one that
        -- has held longest first.
        local function describe(reply, value, most, besides)
          local function add(who, own, tok, from, ends, ok, m)
            local n = #reply
            reply[n + 1], reply[n + 2], reply[n + 3] = string.sub(who, 1, 8), own, string.format('%.0f', tok)
            reply[n + 4], reply[n + 5], reply[n + 6], reply[n + 7] = us - from, ends, 1 - ok, m
          end
          if value == MARK and kind ~= '' then
            local sorted, all = {}, call('ZRANGE', E, 0, most - 1, 'WITHSCORES')
            for i = 1, #all, 2 do
              local who, ends = all[i], all[i + 1] - ms
              if who ~= besides and ends > 0 then
                local m, tok, from, _, ok, _, _, _, own = string.match(call('HGET', S, who) or '', HOLD)
                if m then sorted[#sorted + 1] = { who, own, tok + 0, from, ends, ok, m } end
              end
            end
            table.sort(sorted, function(a, b) return a[3] < b[3] end)
            for _, one in ipairs(sorted) do add(unpack(one)) end
          elseif value and value == id then
            if id ~= besides then add(id, owner, token, since, call('PTTL', K), accepted, 'x') end
          elseif value then
            add('', '', 0, us, call('PTTL', K), 1, value == MARK and 's' or 'x')
          end
          return reply
        end
        -- Everything about the lock, without changing it: `{rests for, {holder…}, {waiter…}}`.
        local function report(most)
          local value = redis.pcall('GET', K)
          -- Another program keeps something else under this name: nobody gets the lock, and no other is hidden by that.
          if type(value) == 'table' then value = 'foreign' end
          local resting = math.max(rest - ms, 0)
          if not value and id ~= '' and accepted == 1 and delay > 0 then
            resting = math.max(resting, math.min(expires, ms) + delay - ms)
          end
          local waiters = {}
          local function add(who, from, own, m, prio, barges, holding)
            local n = #waiters
            waiters[n + 1], waiters[n + 2], waiters[n + 3], waiters[n + 4] = string.sub(who, 1, 8), us - from, own, m
            waiters[n + 5], waiters[n + 6], waiters[n + 7] = prio + 0, barges, holding
          end
          if wish > 0 and value == MARK then
            local _, _, _, _, _, _, prio, _, own = string.match(call('HGET', S, updater) or '', HOLD)
            local alive = call('ZSCORE', E, updater)
            if own and alive and alive + 0 > ms then
              add(updater, wish, own, 'x', prio, 'f', string.sub(updater, 1, 8) .. keeps)
            end
          end
          if queue == 1 then
            for _, who in ipairs(call('ZRANGE', Q, 0, most - 1)) do
              local from, till, _, _, _, prio, m, barges, holding, _, own =
                string.match(call('HGET', W, who) or '', WAITER)
              if from and (till == '0' or till + 0 > ms) then add(who, from, own, m, prio, barges, holding) end
            end
          end
          return { resting, describe({}, value, 0), waiters }
        end

        """#
}
