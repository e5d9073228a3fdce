/** How long answers are kept: new labels show up after that. */
const MAX_AGE = 60_000;

/** How many answers are kept: those of a query editor that is at work. */
const MAX_ANSWERS = 100;

interface Answer<T> {
  since: number;
  value: Promise<T>;
}

/**
 * Keeps the answers to questions for a minute, those that are still on their
 * way included, so that nothing is asked twice. Failures are not kept.
 */
export class Cache<T> {
  private readonly answers = new Map<string, Answer<T>>();

  constructor(private readonly now: () => number = Date.now) {}

  get(key: string, ask: () => Promise<T>): Promise<T> {
    const known = this.answers.get(key);
    if (known && this.now() - known.since < MAX_AGE) {
      return known.value;
    }
    const answer: Answer<T> = { since: this.now(), value: ask() };
    this.answers.delete(key); // so that it becomes the newest
    this.answers.set(key, answer);
    answer.value.catch(() => {
      if (this.answers.get(key) === answer) {
        this.answers.delete(key);
      }
    });
    for (const oldest of this.answers.keys()) {
      if (this.answers.size <= MAX_ANSWERS) {
        break;
      }
      this.answers.delete(oldest);
    }
    return answer.value;
  }
}
