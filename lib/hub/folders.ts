import { homedir, userInfo } from "node:os";
import { join } from "node:path";

/** The part of the environment that says where this user keeps caches. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** This user's folder, also where the environment has an empty HOME. */
const home = () => homedir() || userInfo().homedir;

/**
 * The folder for everything this package keeps for the user: INHOUSE_CACHE where it is set, else `inhouse` in the
 * platform's cache folder (XDG_CACHE_HOME or ~/.cache, ~/Library/Caches, %LOCALAPPDATA%).
 */
export function cacheFolder(env: Environment = process.env, platform = process.platform): string {
  if (env.INHOUSE_CACHE) return env.INHOUSE_CACHE;
  if (platform === "win32")
    return join(env.LOCALAPPDATA || join(home(), "AppData", "Local"), "inhouse", "cache");
  if (env.XDG_CACHE_HOME) return join(env.XDG_CACHE_HOME, "inhouse");
  if (platform === "darwin") return join(home(), "Library", "Caches", "inhouse");
  return join(home(), ".cache", "inhouse");
}

/** The folder of the model store. Its files are ordinary GGUF files; others may be put beside them. */
export function storeFolder(env: Environment = process.env): string {
  return join(cacheFolder(env), "models");
}
