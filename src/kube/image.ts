/** Image references: which tag they carry, and the same image with another one. */

export interface ImageName {
  /** Registry and path. */
  readonly name: string;
  readonly tag: string | undefined;
  readonly digest: string | undefined;
}

export function parseImage(image: string): ImageName {
  const [reference = image, digest] = image.split('@');
  const colon = reference.lastIndexOf(':');
  // A port in the registry's name is no tag.
  const tagged = colon > reference.lastIndexOf('/');
  return {
    name: tagged ? reference.slice(0, colon) : reference,
    tag: tagged ? reference.slice(colon + 1) : undefined,
    digest,
  };
}

/** The same repository with another tag; a digest names other content and goes. */
export function retag(image: string, tag: string): string {
  return `${parseImage(image).name}:${tag}`;
}
