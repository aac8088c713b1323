# SPDX-License-Identifier: Apache-2.0
"""Signatures of plugins as cosign makes and reads them: keys, what is signed, and how it is written down.

Two forms, since both are in use. The older one signs a "simple signing" document that names an artifact's digest
(cosign's SIGNATURE_SPEC.md). The newer one is a Sigstore bundle (protobuf-specs, sigstore_bundle.proto, as JSON): of an
artifact in a registry it holds a DSSE envelope around an in-toto statement, of a file a signature of its digest.
Transparency logs and certificates are not looked at: what is trusted is a key.
"""
