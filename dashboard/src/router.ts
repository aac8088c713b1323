// SPDX-License-Identifier: Apache-2.0
// Where in the page we are: the URL's fragment, as #/vms/web/logs?process=nginx.
import { useEffect, useState } from "preact/hooks";

export interface Place {
  path: string[];
  query: URLSearchParams;
}

function readPlace(): Place {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { path: parts.length ? parts : ["vms"], query: new URLSearchParams(query) };
}

export function go(path: string) {
  location.hash = `#/${path}`;
}

export function usePlace(): Place {
  const [place, setPlace] = useState(readPlace);
  useEffect(() => {
    const heed = () => setPlace(readPlace());
    addEventListener("hashchange", heed);
    return () => removeEventListener("hashchange", heed);
  }, []);
  return place;
}
