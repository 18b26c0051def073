// SPDX-License-Identifier: Apache-2.0

public enum HoldfastProgram {
    public static func main() async -> Never {
        SignalRelay.shared.start()
        fatalError()
    }
}
