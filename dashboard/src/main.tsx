// SPDX-License-Identifier: Apache-2.0
// The page: let the browser in by the link's code, then show the view that the URL names.
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { closeSession, get, onSessionEnded, openSession } from "./api";
import type { SystemInfo } from "./api_types";
import { type Hints, Keys, useKeys } from "./keys";
import { Command } from "./parts";
import { type Place, usePlace } from "./router";
import { fleet, useFleet } from "./store";
import { Create } from "./views/create";
import { Doctor } from "./views/doctor";
import { Events } from "./views/events";
import { VmPage } from "./views/vm";
import { Vms } from "./views/vms";
import { Plugins } from "./views/plugins";
import { Secrets } from "./views/secrets";
import { Snapshots } from "./views/snapshots";
import { Stacks } from "./views/stacks";
import { Volumes } from "./views/volumes";

const VIEWS: [path: string, name: string, key: string, view: (props: { place: Place }) => preact.JSX.Element][] = [
  ["vms", "VMs", "v", Vms],
  ["stacks", "Stacks", "t", Stacks],
  ["plugins", "Plugins", "p", Plugins],
  ["snapshots", "Snapshots", "s", Snapshots],
  ["volumes", "Volumes", "o", Volumes],
  ["secrets", "Secrets", "x", Secrets],
  ["events", "Events", "e", Events],
  ["doctor", "Doctor", "d", Doctor],
];

const HINTS: Hints = [
  ...VIEWS.map(([path, name, key]) => [`g ${key}`, `Go to ${name}`, `#/${path}`] as const),
  ["c", "Create a VM", "#/create"],
];

function View({ place }: { place: Place }) {
  const [first, second] = place.path;
  if (first === "vms" && second) return <VmPage key={second} name={second} tab={place.path[2] ?? "overview"} />;
  if (first === "create") return <Create place={place} />;
  const found = VIEWS.find(([path]) => path === first);
  const Chosen = found ? found[3] : Vms;
  return <Chosen place={place} />;
}

function Frame() {
  const place = usePlace();
  const { connection } = useFleet();
  const [info, setInfo] = useState<SystemInfo | null>(null);
  const [showsKeys, setShowsKeys] = useState(false);
  useKeys(HINTS, () => setShowsKeys(true));
  useEffect(() => {
    const ending = new AbortController();
    fleet.follow(ending.signal);
    get<SystemInfo>("/system/info").then(setInfo, () => {});
    return () => ending.abort();
  }, []);
  const here = place.path[0] === "create" ? "vms" : place.path[0];
  useEffect(() => {
    document.title = `${place.path[1] ?? VIEWS.find(([path]) => path === here)?.[1] ?? "VMs"} · Volant`;
    document.querySelector("aside nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [place]);
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), document.getElementById("main")?.focus())}>
        Skip to the content
      </a>
      <aside>
        <a class="brand" href="#/vms">
          <img src="/assets/icon.svg" alt="" width="28" height="28" />
          Volant
        </a>
        <nav aria-label="Views">
          {VIEWS.map(([path, name]) => (
            <a key={path} href={`#/${path}`} aria-current={path === here ? "page" : undefined}>
              {name}
            </a>
          ))}
        </nav>
        <footer>
          <p class={`connection ${connection}`} role="status">
            {{ opening: "Connecting…", live: "Live", lost: "Daemon not reached, trying again" }[connection]}
          </p>
          {info && (
            <p class="host">
              volantd {info.version}
              <br />
              {info.hypervisor.split(" (")[0]} · {info.accelerator}
            </p>
          )}
          <p class="links">
            <button type="button" class="text" onClick={() => setShowsKeys(true)}>
              Keys
            </button>
            <button type="button" class="text" onClick={() => closeSession().finally(() => location.reload())}>
              Sign out
            </button>
          </p>
        </footer>
      </aside>
      <main id="main" tabIndex={-1}>
        <View place={place} />
      </main>
      {showsKeys && <Keys hints={HINTS} close={() => setShowsKeys(false)} />}
    </div>
  );
}

function SignedOut({ reason }: { reason: string }) {
  return (
    <main class="signed-out">
      <img src="/assets/icon.svg" alt="" width="56" height="56" />
      <h1>This browser is not signed in</h1>
      <p>{reason}</p>
      <p>
        On the daemon's host, type <Command>volar dashboard</Command> and open the link that it prints. It is good once and for a minute.
      </p>
    </main>
  );
}

function Page({ problem }: { problem: string }) {
  const [ended, setEnded] = useState(problem);
  useEffect(() => onSessionEnded(() => setEnded("There is no session, or it has ended: sessions last half a day and end with the daemon.")), []);
  return ended ? <SignedOut reason={ended} /> : <Frame />;
}

/** The code goes out of the URL at once, and so out of the browser's history. */
async function signIn(): Promise<string> {
  const code = /^#code=(.+)$/.exec(location.hash)?.[1];
  if (!code) return "";
  history.replaceState(null, "", "/#/vms");
  try {
    await openSession(code);
    return "";
  } catch (error) {
    return (error as Error).message;
  }
}

const root = document.getElementById("page");
signIn().then((problem) => root && render(<Page problem={problem} />, root));
