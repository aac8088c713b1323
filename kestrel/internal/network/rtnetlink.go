// SPDX-License-Identifier: Apache-2.0

package network

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// requests are messages of rtnetlink(7) that go to the kernel together. A library for it would do, and cost 60 ms of
// the boot under emulation; five kinds of message are all that is needed.
type requests struct {
	bytes []byte
	what  []string // of each message, for errors
}

type attribute struct {
	kind  uint16
	value []byte
}

func (r *requests) add(what string, kind, flags uint16, header []byte, attributes ...attribute) {
	start := len(r.bytes)
	r.bytes = append(r.bytes, make([]byte, unix.SizeofNlMsghdr)...)
	r.bytes = append(r.bytes, header...)
	for _, attribute := range attributes {
		r.bytes = binary.NativeEndian.AppendUint16(r.bytes, uint16(unix.SizeofRtAttr+len(attribute.value)))
		r.bytes = binary.NativeEndian.AppendUint16(r.bytes, attribute.kind)
		r.bytes = append(r.bytes, attribute.value...)
		r.bytes = append(r.bytes, make([]byte, -len(r.bytes)&3)...)
	}
	message := r.bytes[start:]
	binary.NativeEndian.PutUint32(message, uint32(len(message)))
	binary.NativeEndian.PutUint16(message[4:], kind)
	binary.NativeEndian.PutUint16(message[6:], flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	binary.NativeEndian.PutUint32(message[8:], uint32(len(r.what)))
	r.what = append(r.what, what)
}

// linkUp brings an interface up, with another MTU where it is not 0.
func (r *requests) linkUp(index int, mtu int) {
	header := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(header[4:], uint32(index))
	binary.NativeEndian.PutUint32(header[8:], unix.IFF_UP)
	binary.NativeEndian.PutUint32(header[12:], unix.IFF_UP)
	var attributes []attribute
	if mtu != 0 {
		attributes = append(attributes, attribute{unix.IFLA_MTU, binary.NativeEndian.AppendUint32(nil, uint32(mtu))})
	}
	r.add("bring it up", unix.RTM_NEWLINK, 0, header, attributes...)
}

// hardwareAddress gives an interface another MAC address.
func (r *requests) hardwareAddress(index int, address net.HardwareAddr) {
	header := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(header[4:], uint32(index))
	r.add("take the hardware address "+address.String(), unix.RTM_NEWLINK, 0, header,
		attribute{unix.IFLA_ADDRESS, address})
}

func (r *requests) address(index int, prefix netip.Prefix) {
	header, attributes := addressMessage(index, prefix)
	r.add("add the address "+prefix.String(), unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, header, attributes...)
}

func (r *requests) removeAddress(index int, prefix netip.Prefix) {
	header, attributes := addressMessage(index, prefix)
	r.add("remove the address "+prefix.String(), unix.RTM_DELADDR, 0, header, attributes...)
}

func addressMessage(index int, prefix netip.Prefix) ([]byte, []attribute) {
	address := prefix.Addr()
	header := make([]byte, unix.SizeofIfAddrmsg)
	header[0], header[1] = family(address), byte(prefix.Bits())
	binary.NativeEndian.PutUint32(header[4:], uint32(index))
	attributes := []attribute{{unix.IFA_LOCAL, address.AsSlice()}, {unix.IFA_ADDRESS, address.AsSlice()}}
	if address.Is4() {
		if prefix.Bits() < 31 {
			attributes = append(attributes, attribute{unix.IFA_BROADCAST, broadcast(prefix)})
		}
	} else {
		header[2] = unix.IFA_F_NODAD // the host gives each address out once; a probe would delay the first bind
	}
	return header, attributes
}

func broadcast(prefix netip.Prefix) []byte {
	value := binary.BigEndian.Uint32(prefix.Addr().AsSlice()) | (1<<(32-prefix.Bits()) - 1)
	return binary.BigEndian.AppendUint32(nil, value)
}

// defaultRoute leads everything by a gateway. onLink: the gateway lies outside the interface's own prefixes.
func (r *requests) defaultRoute(index int, gateway netip.Addr, onLink bool) {
	header := make([]byte, unix.SizeofRtMsg)
	header[0] = family(gateway)
	header[4], header[5] = unix.RT_TABLE_MAIN, unix.RTPROT_BOOT
	header[6], header[7] = unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST
	if onLink {
		binary.NativeEndian.PutUint32(header[8:], unix.RTNH_F_ONLINK)
	}
	r.add("set the route by "+gateway.String(), unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, header,
		attribute{unix.RTA_GATEWAY, gateway.AsSlice()},
		attribute{unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, uint32(index))})
}

func family(address netip.Addr) byte {
	if address.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// send carries the requests out in order; one that fails does not stop the next. It returns the first failure.
func (r *requests) send() error {
	if len(r.what) == 0 {
		return nil
	}
	socket, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("cannot talk to the kernel about the network: %w", err)
	}
	defer func() { _ = unix.Close(socket) }()
	if err := unix.Sendto(socket, r.bytes, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("cannot talk to the kernel about the network: %w", err)
	}
	buffer := make([]byte, 8192)
	var first error
	for answered := 0; answered < len(r.what); {
		count, _, err := unix.Recvfrom(socket, buffer, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot talk to the kernel about the network: %w", err)
		}
		acknowledged, failure := r.readAnswers(buffer[:count])
		answered += acknowledged
		if first == nil {
			first = failure
		}
	}
	return first
}

// readAnswers counts acknowledgements (NLMSG_ERROR with 0) and gives the first failure among them.
func (r *requests) readAnswers(data []byte) (count int, failure error) {
	for len(data) >= unix.SizeofNlMsghdr {
		length := int(binary.NativeEndian.Uint32(data))
		if length < unix.SizeofNlMsghdr || length > len(data) {
			return count, failure
		}
		if binary.NativeEndian.Uint16(data[4:]) == unix.NLMSG_ERROR && length >= unix.SizeofNlMsghdr+4 {
			count++
			sequence := binary.NativeEndian.Uint32(data[8:])
			code := -int32(binary.NativeEndian.Uint32(data[unix.SizeofNlMsghdr:]))
			if code != 0 && failure == nil && int(sequence) < len(r.what) {
				failure = fmt.Errorf("cannot %s: %w", r.what[sequence], unix.Errno(code))
			}
		}
		data = data[min((length+3)&^3, len(data)):]
	}
	return count, failure
}
