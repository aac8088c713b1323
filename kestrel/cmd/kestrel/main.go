// SPDX-License-Identifier: Apache-2.0

// Command kestrel is PID 1 of every Volant guest.
package main

func main() {}
