// SPDX-License-Identifier: Apache-2.0

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// Random bytes from the kernel.
enum SystemEntropy {
    /// Reads words from the kernel's generator.
    ///
    /// - Parameter count: How many.
    /// - Returns: The words, or `nil` when the kernel gives none.
    static func words(_ count: Int) -> [UInt64]? {
        var words = [UInt64](repeating: 0, count: count)
        // `getentropy` gives up to 256 bytes a call.
        let perCall = 32
        var filled = 0
        while filled < count {
            let take = min(perCall, count - filled)
            let status = words.withUnsafeMutableBytes { bytes in
                unsafe getentropy(
                    bytes.baseAddress.map { unsafe $0 + filled * MemoryLayout<UInt64>.stride },
                    take * MemoryLayout<UInt64>.stride
                )
            }
            guard status == 0 else { return nil }
            filled += take
        }
        return words
    }
}
