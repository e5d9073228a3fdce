import io.pyroscope.labels.v2.LabelsSet;
import io.pyroscope.labels.v2.Pyroscope;

/** Shop, the thread that burns CPU time under a label of Pyroscope's SDK. */
public class Labelled {
  public static void main(String[] args) throws Exception {
    Shop.label = r -> Pyroscope.LabelsWrapper.run(new LabelsSet("endpoint", "/checkout"), r);
    Shop.main(args);
  }
}
