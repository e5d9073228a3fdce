// The native part of Burn.java: it calls the method run of an object ten times.
#include <jni.h>

JNIEXPORT void JNICALL Java_Burn_nativeEach(JNIEnv *env, jclass class, jobject task)
{
	(void)class;
	jmethodID run = (*env)->GetMethodID(env, (*env)->GetObjectClass(env, task), "run", "()V");
	for (int i = 0; i < 10; i++)
		(*env)->CallVoidMethod(env, task, run);
}
