# SPDX-License-Identifier: Apache-2.0
"""A real Alpine (musl, busybox, apk) through the whole line: what its own package manager and user database do."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from support.host import CACHE, ROOT, Host, fetch

# The repository is a folder of the image: nothing outside is asked.
DOCKERFILE = r"""
FROM scratch
ADD alpine.tar /
COPY volant.rsa /tmp/
COPY volant.rsa.pub /etc/apk/keys/
COPY --chmod=755 said.sh /tmp/package/usr/bin/said
RUN mkdir -p /srv/repository && cd /srv/repository \
 && apk mkpkg --sign-key /tmp/volant.rsa --files /tmp/package --info name:said --info version:1.0-r0 \
        --info arch:noarch --output said-1.0-r0.apk \
 && apk mkndx --sign-key /tmp/volant.rsa --output Packages.adb *.apk \
 && echo /srv/repository/Packages.adb > /etc/apk/repositories && rm -r /tmp/*
COPY --chmod=755 page.sh /srv/page.sh
USER nobody
EXPOSE 8080
CMD ["nc", "-lk", "-p", "8080", "-e", "/srv/page.sh"]
"""
SAID = "#!/bin/sh\necho said by a package\n"
# A request that is not read is a reset when nc ends, which may overtake the page.
PAGE = r"""#!/bin/sh
while read -r line && [ ${#line} -gt 1 ]; do :; done
printf 'HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n%s, user %s\n' "$(cat /etc/alpine-release)" "$(id -un)"
"""
USER_DATA = """\
#cloud-config
package_update: true
packages: [said]
users:
  - name: ann
    groups: [wheel]
    shell: /bin/sh
runcmd:
  - said > /root/said
"""


def make_keys(folder: Path) -> None:
    """A key pair under which apk takes packages and index for genuine."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "volant.rsa").write_bytes(private)
    (folder / "volant.rsa.pub").write_bytes(public)


@pytest.fixture(scope="module")
def alpine(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    subprocess.run([str(ROOT / "scripts" / "make-alpine-tar.sh"), str(CACHE)], check=True, timeout=600)
    folder = tmp_path_factory.mktemp("image") / "alpine"  # the plugin is named after the folder
    folder.mkdir()
    shutil.copy(CACHE / "alpine-3.23.tar", folder / "alpine.tar")
    make_keys(folder)
    for name, content in {
        "Dockerfile": DOCKERFILE,
        "said.sh": SAID,
        "page.sh": PAGE,
        "user-data": USER_DATA,
    }.items():
        (folder / name).write_text(content)
    host.run("fledge", "build", "--builder", "buildah", "--output", "alpine.tar.gz", cwd=folder, timeout=600)
    host.volar("plugins", "install", "./alpine.tar.gz", cwd=folder)
    host.volar("vms", "create", "alp", "--plugin", "alpine", "--cloud-init", "user-data", cwd=folder)
    yield "alp"
    host.volar("vms", "delete", "alp", "--force", check=False)


@pytest.mark.guide("6-6", "11-5")
def test_the_workload_serves_as_the_images_user(host: Host, alpine: str) -> None:
    vm = host.vm(alpine)
    assert vm["health"] == "healthy"
    page = fetch(vm["url"])
    assert page.startswith("3.23.")
    assert page.endswith(", user nobody\n")


@pytest.mark.guide("1-2")
def test_apk_installs_what_the_user_data_asks_for(host: Host, alpine: str) -> None:
    assert host.vm(alpine)["cloud_init"] == {
        "status": "done", "by": "kestrel", "errors": [], "unknown_modules": [],
    }  # fmt: skip
    assert host.volar("vms", "exec", alpine, "--", "cat", "/root/said").stdout == "said by a package\n"
    assert "said" in host.volar("vms", "exec", alpine, "--", "apk", "info").stdout.split()


def test_users_are_written_for_musls_readers(host: Host, alpine: str) -> None:
    assert "10(wheel)" in host.volar("vms", "exec", alpine, "--", "id", "ann").stdout
