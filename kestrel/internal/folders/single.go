// SPDX-License-Identifier: Apache-2.0

package folders

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// singleFile is a file system whose root is a file: the library takes every root for a folder.
type singleFile struct{ fuse.RawFileSystem }

func (s singleFile) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	status := s.RawFileSystem.GetAttr(cancel, in, out)
	out.Mode = out.Mode&^unix.S_IFMT | unix.S_IFREG
	return status
}

func (s singleFile) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	status := s.RawFileSystem.SetAttr(cancel, in, out)
	out.Mode = out.Mode&^unix.S_IFMT | unix.S_IFREG
	return status
}

func (singleFile) Statx(<-chan struct{}, *fuse.StatxIn, *fuse.StatxOut) fuse.Status {
	return fuse.ENOSYS
}
