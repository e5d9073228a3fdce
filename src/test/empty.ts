/** Stands for Grafana's assistant, which tests do not need. */
export {};
