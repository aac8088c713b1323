# SPDX-License-Identifier: Apache-2.0
"""How signatures are labelled in registries; apart from what checks them: who carries them needs no cryptography."""

DOCUMENT = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
# Of every version.
BUNDLES = "application/vnd.dev.sigstore.bundle"
# What is in a bundle, beside it in the registry: as cosign 3 says it.
BUNDLE_ANNOTATIONS = {
    "dev.sigstore.bundle.content": "dsse-envelope",
    "dev.sigstore.bundle.predicateType": "https://sigstore.dev/cosign/sign/v1",
}
