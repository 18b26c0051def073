// SPDX-License-Identifier: Apache-2.0

import HoldfastCache
import Testing

@Suite("Marks of a namespace")
struct TierMarksTests {
    @Test("admit what was loaded under them, and nothing older")
    func order() {
        let marks = TierMarks(current: 9, all: 5, prefixes: ["users/": 7])
        #expect(marks.admits("orders/1", since: 5))
        #expect(!marks.admits("orders/1", since: 4))
        #expect(!marks.admits("users/1", since: 6))
        #expect(marks.admits("users/1", since: 7))
    }

    @Test("take a prefix by its bytes, not as a name that starts alike")
    func prefixes() {
        let marks = TierMarks(current: 9, all: 0, prefixes: ["users/": 7])
        #expect(marks.admits("usersAbc", since: 1))
    }
}
