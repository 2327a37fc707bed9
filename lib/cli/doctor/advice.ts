// What would be faster on this machine, and why.
import { bytes, plural } from "../terminal.js";
import type { Examination } from "./examine.js";

/** Sentences for people; none where there is nothing to say. */
export function advice(found: Examination): string[] {
  const { platform, binary, processor, memory, controlGroup, gpus } = found;
  if (binary === undefined) return [];
  const all: string[] = [];
  const emulated = processor.model.startsWith("Apple") || process.env.PROCESSOR_IDENTIFIER?.startsWith("ARM");
  if (platform.endsWith("-x64") && emulated)
    all.push("This Node is built for x64 and runs emulated on an ARM processor: install Node for arm64.");
  if (/[\\/]build[\\/]Debug[\\/]/.test(binary.path ?? ""))
    all.push("The binary is a debug build: build it anew with npm run build:addon.");
  all.push(...instructions(processor, platform));
  const limit = controlGroup.processors;
  if (limit !== undefined && limit < processor.logical) {
    all.push(
      `The control group allows ${limit} of ${plural(processor.logical, "processor")}, of which whole ones are used: ` +
        "raise the container's limit (docker run --cpus, resources.limits.cpu in Kubernetes) for more threads.",
    );
  }
  if (processor.available < processor.logical) {
    all.push(
      `This process may run on ${processor.available} of ${plural(processor.logical, "processor")}: ` +
        "widen its affinity (taskset, docker run --cpuset-cpus) for more threads.",
    );
  }
  for (const { name, bytes: size } of found.store.models) {
    if (size > memory.available) {
      all.push(
        `${name} has ${bytes(size)}, and ${bytes(memory.available)} of memory are free: ` +
          "it would be slow or be refused; free memory, raise the container's limit or take a smaller quantization.",
      );
    }
  }
  if (found.largePages === "never") {
    all.push(
      "Large pages are off, so reading weights costs more address translation: " +
        "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled (as root).",
    );
  }
  const gpu = gpus.devices.join(", ") || (gpus.driver && "the GPU of this driver");
  if (gpu && found.cudaImage === undefined)
    all.push(`Not used: ${gpu}. The CUDA part is experimental and has to be built (docs/cuda.md).`);
  return all;
}

function instructions({ chosen }: Examination["processor"], platform: string): string[] {
  if (chosen === "baseline") {
    const wanted = platform.includes("x64") ? "AVX2" : "a known instruction set";
    return [
      `The processor, or the virtual machine it is seen through, has no ${wanted}, so plain C++ computes, many times ` +
        "slower. A virtual machine may hide it: pass the host's processor through (QEMU: -cpu host).",
    ];
  }
  if (chosen === "avx2" || chosen === "avx512") {
    return [
      "A processor with VNNI (AVX-512 VNNI or AVX-VNNI) multiplies 8-bit numbers in one instruction where this one " +
        "takes three, which makes reading prompts faster.",
    ];
  }
  if (chosen === "neon") {
    return ["An ARM processor with dot products (ARMv8.2 and later) would read and write faster."];
  }
  return [];
}
