# SPDX-License-Identifier: Apache-2.0
"""How signatures are labelled in registries; apart from what checks them: who carries them needs no cryptography."""

DOCUMENT = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
# Of every version.
BUNDLES = "application/vnd.dev.sigstore.bundle"
